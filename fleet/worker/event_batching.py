"""Task events in bundles: what Flower is told of a task costs a message for many, not one each.

Celery sends the events that it has at every turn of its event loop, which makes a message of a
few events. A monitor that learns of a task a tenth of a second later has lost nothing.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import Celery, bootsteps

BUNDLE_SECONDS = 0.1
MAX_IN_BUNDLE = 300
"""Encoding a bundle holds the event loop up: this many take some milliseconds."""

log = structlog.get_logger(__name__)


def add_event_bundles(app: Celery) -> None:
    """Let the application's workers send their task events in bundles."""
    app.steps["consumer"].add(EventBatching)


class EventBatching(bootsteps.StartStopStep):
    """Starts with the event dispatcher of a connection; sends what is left when it stops."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        dispatcher = consumer.event_dispatcher
        if consumer.hub is None or not dispatcher.enabled:
            return
        dispatcher.on_send_buffered = None
        dispatcher.buffer_limit = MAX_IN_BUNDLE
        self.timer = consumer.hub.call_repeatedly(BUNDLE_SECONDS, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        if self.timer is None:
            return
        self.timer.cancel()
        self.timer = None
        try:
            consumer.event_dispatcher.flush()
        except Exception as error:
            # With the connection gone: Celery keeps them for the next one.
            log.debug("events are sent later", error=str(error))

    shutdown = stop
