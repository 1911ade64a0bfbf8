"""What a worker has begun, or is about to, for the transport that fetches for it.

The transport knows what it has handed over and what is not acknowledged. A task that is
acknowledged before it runs takes a slot all the same, and so does one that came over a connection
that was lost.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.worker import state

from fleet.broker.transport.channel import Channel

RENEWALS = 3
"""How often a message is renewed within the time after which another worker takes it."""

log = structlog.get_logger(__name__)


def known_deliveries() -> set[str]:
    """The delivery tags of all tasks that the worker has begun, or has handed to its pool."""
    # Threads change the set meanwhile; this copy is one step of the interpreter.
    requests = [reference() for reference in tuple(state.reserved_requests.data)]
    return {request.message.delivery_tag for request in requests if request is not None}


def add_known_deliveries(app: Celery) -> None:
    """Let the application's workers take no more messages than they have free slots."""
    app.steps["consumer"].add(KnownDeliveries)


class KnownDeliveries(bootsteps.StartStopStep):
    """Tells the consumer's channel, and goes on renewing what it holds when the loop has ended: a
    worker that stops waits for its tasks, and nobody else may take these meanwhile."""

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
    """Renew what a channel holds, until it closes."""
    while not channel.closed:
        try:
            channel.qos.renew()
        except Exception as error:
            log.warning("held messages could not be renewed", error=repr(error))
        time.sleep(channel.visibility_timeout / RENEWALS)
