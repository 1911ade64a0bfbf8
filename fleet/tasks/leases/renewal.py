"""Renews the leases of all tasks that run in this process.

Twice a second one thread asks Redis, in one script, which tasks are cancelled and which leases
another run has; the same script renews the leases that are due. A run that must end is stopped with
a verdict: `cancelled`; `lost` if another run has the lease or it was not renewed in time; or
`shutdown` if the worker stops and the task is requeued.

Redis counts a lease from its renewal, which is later than the request. This process counts from
before the request, by the monotonic clock. A second thread only checks that time: the first thread
may hang in a call to Redis for the socket's time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fleet.tasks.background_loops import repeat
from fleet.tasks.store import Lease, Tasks

Verdict = Literal["cancelled", "lost", "shutdown"]

LOOK_SECONDS = 0.5
"""A cancelled run is stopped within this time and the time of one call."""

MAX_LOOK_SECONDS = 1.0
"""The longest pause between requests while Redis answers with errors: a lease may be short."""

WATCH_SECONDS = 0.2

MARGIN_SECONDS = 2.0
"""A run stops this long before another run can get its lease, so that two runs never overlap; at
most a third of the lease."""

MAX_AT_ONCE = 100
"""Leases that one script checks: half a millisecond of Redis's time, more if it renews."""


@dataclass(slots=True)
class Held:
    """A lease in use. `renewed` is the monotonic time of the latest renewal's request. `verdicts`
    are those that its run was stopped with."""

    lease: Lease
    stop: Callable[[Verdict], None]
    renewed: float
    verdicts: set[Verdict] = field(default_factory=set)

    def stop_once(self, verdict: Verdict) -> None:
        """Stop the run, once for each verdict."""
        if verdict not in self.verdicts:
            self.verdicts.add(verdict)
            self.stop(verdict)


class LeaseKeeper:
    """Renews the leases of one process; call `start` after the fork."""

    def __init__(self, tasks: Tasks, lease_seconds: float, renew_seconds: float) -> None:
        self.tasks = tasks
        self.lease_seconds = lease_seconds
        self.renew_seconds = renew_seconds
        self.max_seconds = lease_seconds - min(MARGIN_SECONDS, lease_seconds / 3)
        self._held: dict[str, Held] = {}
        self._shutting_down = False
        self._guard = threading.Lock()

    def start(self) -> None:
        """Start both threads, as daemons."""
        repeat("lease-keeper", self.look, LOOK_SECONDS, MAX_LOOK_SECONDS).start()
        repeat("lease-watch", self.stop_overdue, WATCH_SECONDS, WATCH_SECONDS).start()

    def hold(self, lease: Lease, stop: Callable[[Verdict], None]) -> None:
        """Renew a lease until `release`. The keeper's threads call `stop`."""
        held = Held(lease, stop, lease.asked_at)
        with self._guard:
            self._held[lease.task_id] = held
            shutting_down = self._shutting_down
        if shutting_down:
            held.stop_once("shutdown")

    def release(self, lease: Lease) -> None:
        """Renew a lease no longer."""
        with self._guard:
            self._held.pop(lease.task_id, None)

    def requeue_all(self) -> None:
        """Stop every run of this process, and every later one, with the verdict `shutdown`."""
        with self._guard:
            self._shutting_down = True
        for each in self._all():
            each.stop_once("shutdown")

    def look(self) -> None:
        """One round: stop cancelled and lost runs, renew leases that are due. Raises the errors of
        `fleet.redis.client.redis_errors`."""
        held = self._all()
        for first in range(0, len(held), MAX_AT_ONCE):
            self._look_at(held[first : first + MAX_AT_ONCE])

    def stop_overdue(self) -> None:
        """Stop the runs whose lease was not renewed, before another run can get it."""
        now = time.monotonic()
        for each in self._all():
            if now - each.renewed > self.max_seconds:
                each.stop_once("lost")

    def _look_at(self, held: list[Held]) -> None:
        asked = time.monotonic()
        due = [asked - each.renewed >= self.renew_seconds for each in held]
        leases = [(each.lease, is_due) for each, is_due in zip(held, due, strict=True)]
        statuses = self.tasks.check_leases(leases, self.lease_seconds)
        for each, is_due, status in zip(held, due, statuses, strict=True):
            if status == "lost":
                each.stop_once("lost")
                continue
            if is_due:
                each.renewed = asked
            if status == "cancelled":
                each.stop_once("cancelled")

    def _all(self) -> list[Held]:
        with self._guard:
            return list(self._held.values())
