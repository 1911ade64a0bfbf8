"""Celery beat with a lease: of several beats one sends jobs, the others stand by.

The lease is a key with an expiry. The beat that holds it renews it at every tick; should
it die, another takes over when the key has expired. A job that two beats sent all the same
does no harm: every job may run twice.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import structlog
from celery.beat import PersistentScheduler

from fleet.errors import RetryLater
from fleet.runtime.app import fleet_of
from fleet.state.beat import BeatLease

LEASE_SECONDS = 30
TICK_SECONDS = 5.0

log = structlog.get_logger(__name__)


class LeasedScheduler(PersistentScheduler):
    """Named by `beat_scheduler`. Ticks only while it holds the lease."""

    def __init__(self, app: Any, **options: Any) -> None:
        connection = fleet_of(app)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        self.lease = BeatLease(connection.client, connection.keys, owner, LEASE_SECONDS)
        self.held: bool | None = None
        super().__init__(app, **options)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, where this beat holds the lease; seconds until the next look."""
        if not self._hold():
            return TICK_SECONDS
        return min(float(super().tick(*args, **kwargs)), TICK_SECONDS)

    def close(self) -> None:
        """Let another beat take over at once."""
        try:
            self.lease.release()
        except RetryLater as error:
            log.warning("the beat lease runs out by itself", error=str(error))
        super().close()

    def _hold(self) -> bool:
        try:
            held = self.lease.hold()
        except RetryLater as error:
            log.warning("beat waits for Redis", error=str(error))
            held = False
        if held != self.held:
            log.info("this beat sends the jobs" if held else "another beat sends the jobs")
        self.held = held
        return held
