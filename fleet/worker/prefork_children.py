"""The children of a prefork pool: a dead one is replaced at once, a slow one is left to start.

Celery hears that a child's pipe has closed, which the kernel does a moment before the child counts
as dead. Where Celery looks within that moment it sees a child that lives, and next looks 5 s later;
until then the pool is short of one, and what was handed to it waits. So Fleet looks more often.

A new child says that it is up when it has imported its agents. One that has not within
`START_SECONDS` hangs, and is killed. Celery's own 4 s are not enough for a busy machine, on which
each child in turn would be killed.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from celery.concurrency.prefork import TaskPool

LOOK_SECONDS = 0.5
START_SECONDS = 60.0


def watch_children(app: Celery) -> None:
    """Have the application's prefork workers look after their children."""
    app.conf.worker_proc_alive_timeout = START_SECONDS
    app.steps["consumer"].add(ChildWatch)


class ChildWatch(bootsteps.StartStopStep):
    """Looks for dead children, in the worker's event loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.looks: Any = None

    def start(self, consumer: Any) -> None:
        if consumer.hub is not None and isinstance(consumer.pool, TaskPool):
            self.looks = consumer.hub.call_repeatedly(LOOK_SECONDS, consumer.pool.maintain_pool)

    def stop(self, consumer: Any) -> None:
        if self.looks is not None:
            self.looks.cancel()
            self.looks = None

    shutdown = stop
