"""Event batching: one message to Flower carries the events of many tasks.

Celery sends its pending events at every turn of its event loop, so each message holds a few events
only. For a monitor, a delay of a tenth of a second does not matter.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

from fleet.telemetry.logger import get_logger

BATCH_SECONDS = 0.1
MAX_BATCH = 300
"""Events in a message. Encoding blocks the event loop: for this many, some milliseconds."""

log = get_logger(__name__)


def add_event_batching(app: Celery) -> None:
    """Have the application's workers send their task events in batches."""
    app.steps["consumer"].add(EventBatching)


class EventBatching(bootsteps.StartStopStep):
    """Starts with a connection's event dispatcher; sends the remaining events when it stops."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or not dispatcher.enabled:
            return
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = MAX_BATCH
        self.timer = consumer.hub.call_repeatedly(BATCH_SECONDS, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        if self.timer is None:
            return
        self.timer.cancel()
        self.timer = None
        try:
            consumer.event_dispatcher.flush()
        except Exception as error:
            # The connection is lost: Celery keeps the events for the next one.
            log.debug("sending events failed, kept for later", error=str(error))

    shutdown = stop
