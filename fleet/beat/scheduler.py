"""Celery beat with a lease: of several beats one works, the others stand by.

The lease is a key with an expiry. The beat that holds it renews it at every tick; should
it die, another takes over when the key has expired. When each job began last is kept beside it, so
the other goes on where the first one stopped, and each job begins once a period.

Fleet's own jobs (`JOBS` of `fleet.broker.known_tasks`) run here, in threads: so they run though
every slot of every worker is taken, and where there is no worker at all. Any other task of the
schedule is sent as a stock beat sends it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from celery.beat import Scheduler

from fleet.beat.job_events import JobEvents
from fleet.beat.store import BeatLease
from fleet.broker.app import fleet_of
from fleet.broker.known_tasks import JOBS, KnownJob
from fleet.errors import FleetError
from fleet.tasks.background_loops import FailureStreak

TICKS = 6
"""How often at least beat looks, and renews its lease, while one lease lasts."""
RETRY_SECONDS = 1.0
"""After a tick that failed the next one comes so soon; later where it has failed again."""
END_SECONDS = 5.0
"""How long a beat that ends waits for the jobs that it runs. They may be killed at any time."""

log = structlog.get_logger(__name__)


class JobThreads:
    """Runs jobs, each in a thread of its own and never twice at once."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Thread] = {}

    def is_running(self, name: str) -> bool:
        """Whether the job's last run has not ended."""
        return name in self._running and self._running[name].is_alive()

    def start(self, name: str, job: Callable[[], Any]) -> None:
        """Run a job."""
        thread = threading.Thread(target=_run, args=(name, job), name=name, daemon=True)
        self._running[name] = thread
        thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the jobs that run."""
        deadline = time.monotonic() + seconds
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))


def _run(name: str, job: Callable[[], Any]) -> None:
    began = time.monotonic()
    try:
        job()
    except FleetError as error:
        log.warning("a job failed; the next one does the same", job=name, error=str(error))
    except Exception:
        log.exception("a job failed", job=name)
    else:
        log.debug("a job ended", job=name, seconds=round(time.monotonic() - began, 3))


class LeasedScheduler(Scheduler):
    """Named by `beat_scheduler`. Ticks only while it holds the lease."""

    def __init__(self, app: Any, **options: Any) -> None:
        connection = fleet_of(app)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        seconds = connection.settings.config.leases.beat_seconds
        self.lease = BeatLease(connection.client, connection.keys, owner, seconds)
        self.tick_seconds = seconds / TICKS
        self.jobs = JobThreads()
        self.events = JobEvents(app)
        self.troubles = FailureStreak("beat")
        self.held: bool | None = None
        #: The last run of each job as this beat knows it.
        self.runs: dict[str, str] = {}
        #: Whether another beat may have begun jobs since this one has looked.
        self.is_behind = True
        app.add_jobs()
        super().__init__(app, **options)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Begin what is due, where this beat holds the lease; seconds until the next look.

        Celery's beat ends with the first error of a tick. This one goes on.
        """
        try:
            seconds = self._tick(*args, **kwargs)
        except Exception as error:
            self.troubles.failed(error)
            # Celery has taken the entry that failed out of its heap.
            self.held = self._heap = None
            return self.troubles.seconds(RETRY_SECONDS, self.tick_seconds)
        self.troubles.succeeded()
        return seconds

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._hold():
            return self.tick_seconds
        self.events.alive()
        return min(float(super().tick(*args, **kwargs)), self.tick_seconds)

    def apply_async(
        self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Run a job of Fleet's, or send any other task, once a period."""
        if self.jobs.is_running(entry.name):
            log.warning("a job has not ended when it was due again", job=entry.name)
            return None
        # Until it is sure that this beat has begun it, what Redis says is looked at again.
        self.is_behind = True
        begun = self.lease.begin(entry.name, self.runs.get(entry.name, ""))
        if not begun:
            return None
        self.runs[entry.name] = begun
        self.is_behind = False
        task = self.app.tasks.get(entry.task)
        if entry.task not in JOBS or task is None or isinstance(task, KnownJob):
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        job = self.events.of(entry.task, partial(task, *(entry.args or ()), **(entry.kwargs or {})))
        self.jobs.start(entry.name, job)
        return None

    def close(self) -> None:
        """Let another beat take over at once."""
        self.jobs.wait(END_SECONDS)
        try:
            self.lease.release()
        except Exception as error:
            log.warning("the beat lease runs out by itself", error=repr(error))
        super().close()

    def _hold(self) -> bool:
        held = self.lease.hold()
        if held and (not self.held or self.is_behind):
            self._catch_up()
        if held != self.held:
            log.info("this beat sends the jobs" if held else "another beat sends the jobs")
        self.held = held
        return held

    def _catch_up(self) -> None:
        """Go on where another beat has stopped, by how long ago each job began."""
        for name, run in self.lease.runs().items():
            self.runs[name] = run.name
            entry = self.schedule.get(name)
            if entry is not None:
                entry.last_run_at = entry.default_now() - timedelta(seconds=run.seconds_ago)
        self._heap = None
        self.is_behind = False
