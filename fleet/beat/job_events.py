"""What monitors are told of the jobs that beat runs itself: the events that a worker sends.

So Flower shows each run with what it gave, and beat among the workers. Monitors alone need them:
where they cannot be sent, the job runs all the same.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import structlog
from celery import Celery
from celery.utils.saferepr import saferepr
from celery.worker.state import SOFTWARE_INFO

from fleet.errors import FleetError

ALIVE_SECONDS = 5.0
"""Beat says so often that it works; it is told to be gone after twice the `freq` that it names."""

Job = Callable[[], Any]

log = structlog.get_logger(__name__)


class JobEvents:
    """Sends the events of one beat."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = f"beat@{socket.gethostname()}"
        self._said_at = float("-inf")

    def alive(self) -> None:
        """Say that this beat works, where that was not said a moment ago."""
        now = time.monotonic()
        if now - self._said_at >= ALIVE_SECONDS:
            self._said_at = now
            self._send("worker-heartbeat", freq=2 * ALIVE_SECONDS, **SOFTWARE_INFO)

    def of(self, name: str, job: Job) -> Job:
        """The job, told about when it begins and when it ends."""

        def run() -> Any:
            run_id, began = str(uuid4()), time.monotonic()
            self._send("task-received", uuid=run_id, name=name, args="()", kwargs="{}")
            self._send("task-started", uuid=run_id)
            try:
                result = job()
            except Exception as error:
                self._send("task-failed", uuid=run_id, exception=_told(error), traceback="")
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


def _told(error: Exception) -> str:
    """An error of Fleet's in its words; of any other, which may quote anything, its class."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, FleetError) else kind
