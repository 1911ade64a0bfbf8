"""Celery events for the jobs that beat runs itself, as a worker sends them.

With these events Flower lists beat as a worker, and each run of a job with its result. Only
monitors need the events: if they cannot be sent, the job runs anyway.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.utils.saferepr import saferepr
from celery.worker.state import SOFTWARE_INFO

from fleet.errors import FleetError
from fleet.telemetry.logger import get_logger

ALIVE_SECONDS = 5.0
"""The interval of heartbeats. Monitors declare beat dead after twice the `freq` in the event."""

Job = Callable[[], Any]

log = get_logger(__name__)


class JobEvents:
    """Sends the events of one beat process."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = f"beat@{socket.gethostname()}"
        self._sent_at = float("-inf")

    def alive(self) -> None:
        """Send a heartbeat, unless the last one is newer than `ALIVE_SECONDS`."""
        now = time.monotonic()
        if now - self._sent_at >= ALIVE_SECONDS:
            self._sent_at = now
            self._send("worker-heartbeat", freq=2 * ALIVE_SECONDS, **SOFTWARE_INFO)

    def of(self, name: str, job: Job) -> Job:
        """The job, wrapped to send an event when it starts and when it ends."""

        def run() -> Any:
            run_id, began = str(uuid4()), time.monotonic()
            self._send("task-received", uuid=run_id, name=name, args="()", kwargs="{}")
            self._send("task-started", uuid=run_id)
            try:
                result = job()
            except Exception as error:
                self._send("task-failed", uuid=run_id, exception=_describe(error), traceback="")
                raise
            runtime = time.monotonic() - began
            self._send("task-succeeded", uuid=run_id, result=saferepr(result), runtime=runtime)
            return result

        return run

    def _send(self, kind: str, **fields: Any) -> None:
        try:
            with self.app.events.default_dispatcher(
                hostname=self.hostname, buffer_while_offline=False
            ) as dispatcher:
                dispatcher.send(kind, **fields)
        except Exception as error:
            log.debug("an event was not sent", kind=kind, error=type(error).__name__)


def _describe(error: Exception) -> str:
    """The message of an error of Fleet's. Of other errors, which may quote secrets, the class."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, FleetError) else kind
