"""Each worker polls the fleet's schedule, so that due tasks are queued although beat is down."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from celery import Celery, bootsteps

from fleet.tasks.background_loops import repeat
from fleet.tasks.connection import Connection
from fleet.tasks.waiting.release import release_due

POLL_SECONDS = 0.5
"""Half of the second within which a due task is queued. A poll costs Redis some 5 us."""

MAX_POLL_SECONDS = 4.0
"""At most so long between two polls while Redis answers with errors."""


def add_schedule_step(app: Celery, connection: Connection) -> None:
    """Have the application's workers poll the schedule."""

    class ScheduleStep(bootsteps.StartStopStep):
        """Polls while the consumer runs."""

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
    """Polls in one thread of a worker's main process."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._ended = threading.Event()
        poll = partial(release_due, connection)
        self._thread = repeat("schedule", poll, POLL_SECONDS, MAX_POLL_SECONDS, self._ended)

    def start(self) -> None:
        """Begin to poll."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling. Tasks that this worker had taken and not queued become due again."""
        self._ended.set()
        self._thread.join(timeout=POLL_SECONDS)
