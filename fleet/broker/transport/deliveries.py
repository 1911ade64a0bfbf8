"""The tasks that a worker has begun, or has handed to its pool, for the transport's count of slots.

The transport itself knows only unacknowledged messages. A task that is acknowledged before it runs
takes a slot too, and so does one that came over a connection that is now lost.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from fleet.broker.transport.channel import Channel
from fleet.telemetry.logger import get_logger

RENEWALS = 3
"""Renewals of a message within the visibility timeout, after which another worker takes it."""

log = get_logger(__name__)


def known_deliveries() -> set[str]:
    """The delivery tags of all tasks that the worker has begun, or has handed to its pool."""
    # Other threads change the set; the interpreter makes this copy in one step.
    requests = [reference() for reference in tuple(state.reserved_requests.data)]
    return {request.message.delivery_tag for request in requests if request is not None}


def add_known_deliveries(app: Celery) -> None:
    """Have the application's workers take no more messages than they have free slots."""
    app.steps["consumer"].add(KnownDeliveries)


class KnownDeliveries(bootsteps.StartStopStep):
    """Reports to the consumer's channel. After the event loop ends, it renews the held messages: a
    worker that shuts down waits for its tasks, and no other worker may take these meanwhile."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        consumer.task_consumer.channel.qos.known_deliveries = known_deliveries

    def stop(self, consumer: Any) -> None:
        channel = consumer.task_consumer and consumer.task_consumer.channel
        if isinstance(channel, Channel):
            renewing = threading.Thread(
                target=_renew, args=(channel,), name="renewing", daemon=True
            )
            renewing.start()

    def shutdown(self, consumer: Any) -> None:
        """The channel ends with its connection."""


def _renew(channel: Channel) -> None:
    """Renew a channel's held messages until the channel closes."""
    while not channel.closed:
        try:
            channel.qos.renew()
        except Exception as error:
            log.warning("renewing held messages failed, continuing", error=repr(error))
        time.sleep(channel.visibility_timeout / RENEWALS)
