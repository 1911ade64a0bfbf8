"""A worker looks into the fleet's schedule: what is due is queued although beat is down."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from celery import Celery, bootsteps

from fleet.tasks.background_loops import repeat
from fleet.tasks.connection import Connection
from fleet.tasks.waiting.release import unpark

LOOK_SECONDS = 0.5
"""Half of the second within which a due task is queued. A look costs Redis some 5 us."""

MAX_LOOK_SECONDS = 4.0
"""Between two looks while Redis answers with errors."""


def add_schedule_step(app: Celery, connection: Connection) -> None:
    """Let the application's workers look into the schedule."""

    class ScheduleStep(bootsteps.StartStopStep):
        """Runs while the consumer does."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            self.watch: ScheduleWatch | None = None

        def start(self, consumer: Any) -> None:
            self.watch = ScheduleWatch(connection)
            self.watch.start()

        def stop(self, consumer: Any) -> None:
            if self.watch is not None:
                self.watch.stop()
                self.watch = None

        shutdown = stop

    app.steps["consumer"].add(ScheduleStep)


class ScheduleWatch:
    """One thread of a worker's main process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ended = threading.Event()
        look = partial(unpark, connection)
        self._thread = repeat("schedule", look, LOOK_SECONDS, MAX_LOOK_SECONDS, self._ended)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End. What this worker had taken and not queued comes due again."""
        self._ended.set()
        self._thread.join(timeout=LOOK_SECONDS)
