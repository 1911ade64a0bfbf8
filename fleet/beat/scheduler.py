"""Celery beat with a lease: of several beat processes, one is active and the others stand by.

The lease is a key that expires. The active process renews it at every tick. If that process dies,
another one takes over when the key has expired. The last start of each job is stored beside the
lease. The new process continues from there, so each job starts once per period.

Fleet's own jobs, listed in `JOBS` of `fleet.broker.known_tasks`, run in threads of this process.
They run even if all slots of all workers are taken, or without any worker. Other tasks of the
schedule are sent as in stock Celery.
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

from celery.beat import Scheduler

from fleet.beat.job_events import JobEvents
from fleet.beat.store import BeatLease
from fleet.broker.app import fleet_of
from fleet.broker.known_tasks import JOBS, KnownJob
from fleet.errors import FleetError
from fleet.local.alive import show_alive
from fleet.tasks.background_loops import FailureStreak
from fleet.telemetry.logger import get_logger

TICKS = 6
"""The minimum number of ticks, and so of renewals, within the time of a lease."""
RETRY_SECONDS = 1.0
"""The wait after a failed tick. It grows with further failures."""
END_SECONDS = 5.0
"""How long beat waits for its running jobs at shutdown. A job may be killed at any time."""

log = get_logger(__name__)


class JobThreads:
    """Runs each job in its own thread, never two runs of a job at once."""

    def __init__(self) -> None:
        self._running: dict[str, threading.Thread] = {}

    def is_running(self, name: str) -> bool:
        """Whether the last run of the job is still running."""
        return name in self._running and self._running[name].is_alive()

    def start(self, name: str, job: Callable[[], Any]) -> None:
        """Run a job in a thread."""
        thread = threading.Thread(target=_run, args=(name, job), name=name, daemon=True)
        self._running[name] = thread
        thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the running jobs, at most `seconds`."""
        deadline = time.monotonic() + seconds
        for thread in self._running.values():
            thread.join(max(0.0, deadline - time.monotonic()))


def _run(name: str, job: Callable[[], Any]) -> None:
    began = time.monotonic()
    try:
        job()
    except FleetError as error:
        log.warning("a job failed; its next run repeats the work", job=name, error=str(error))
    except Exception:
        log.exception("a job failed", job=name)
    else:
        log.debug("a job ended", job=name, seconds=round(time.monotonic() - began, 3))


class LeasedScheduler(Scheduler):
    """The value of the setting `beat_scheduler`. It ticks only while it holds the lease."""

    def __init__(self, app: Any, **options: Any) -> None:
        connection = fleet_of(app)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        seconds = connection.settings.config.leases.beat_seconds
        self.lease = BeatLease(connection.client, connection.keys, owner, seconds)
        self.tick_seconds = seconds / TICKS
        self.data_dir = connection.settings.environment.data_dir
        self.jobs = JobThreads()
        self.events = JobEvents(app)
        self.troubles = FailureStreak("beat")
        self.held: bool | None = None
        #: The last run of each job that this process knows.
        self.runs: dict[str, str] = {}
        #: Whether another process may have started jobs since `runs` was read.
        self.is_behind = True
        app.add_jobs()
        super().__init__(app, **options)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Start due jobs, if this process holds the lease. Returns the seconds to wait.

        Celery's beat exits on the first error of a tick. This one continues.
        """
        show_alive(self.data_dir, "beat")
        try:
            seconds = self._tick(*args, **kwargs)
        except Exception as error:
            self.troubles.failed(error)
            # Celery has removed the failed entry from its heap.
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
        """Run one of Fleet's jobs, or send another task, once per period."""
        if self.jobs.is_running(entry.name):
            log.warning("a job is due again, but its last run has not ended", job=entry.name)
            return None
        # If `begin` fails, the next tick reads the runs from Redis again.
        self.is_behind = True
        run = self.lease.begin(entry.name, self.runs.get(entry.name, ""))
        if not run:
            return None
        self.runs[entry.name] = run
        self.is_behind = False
        task = self.app.tasks.get(entry.task)
        if entry.task not in JOBS or task is None or isinstance(task, KnownJob):
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        job = self.events.of(entry.task, partial(task, *(entry.args or ()), **(entry.kwargs or {})))
        self.jobs.start(entry.name, job)
        return None

    def close(self) -> None:
        """Shut down, and release the lease so that another process takes over at once."""
        self.jobs.wait(END_SECONDS)
        try:
            self.lease.release()
        except Exception as error:
            log.warning("releasing the beat lease failed; it expires by itself", error=repr(error))
        super().close()

    def _hold(self) -> bool:
        held = self.lease.hold()
        if held and (not self.held or self.is_behind):
            self._catch_up()
        if held != self.held:
            log.info("this beat runs the jobs" if held else "another beat runs the jobs")
        self.held = held
        return held

    def _catch_up(self) -> None:
        """Read when each job last started, to continue the schedule of another process."""
        for name, run in self.lease.runs().items():
            self.runs[name] = run.name
            entry = self.schedule.get(name)
            if entry is not None:
                entry.last_run_at = entry.default_now() - timedelta(seconds=run.seconds_ago)
        self._heap = None
        self.is_behind = False
