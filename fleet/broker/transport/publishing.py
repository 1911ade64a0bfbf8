"""How a channel publishes: a planned task by one script, any other message with a wake-up token.

A task that Fleet's router has planned is placed by `submit.lua`: slot, record and message in one
step. Any other message to a queue of Fleet's is pushed with a wake-up token, or kept in the
schedule until its time. Celery publishes again after a lost answer; such a message is pushed once.
"""

from __future__ import annotations

from typing import Any

from kombu.utils.json import dumps
from redis.exceptions import ConnectionError

from fleet.broker.messages import digest_of, may_wait, seconds_until_eta, without_eta
from fleet.broker.transport.link import Link
from fleet.broker.transport.set_aside import GuardedChannel
from fleet.redis.keys import Keys, pushed, wake
from fleet.redis.scripts import Scripts
from fleet.tasks.waiting.schedule_store import deferred

RESEND_SECONDS = 60
"""How long a repeated push is recognised. By then the time-outs of all of Celery's own attempts are
over; with the default they take some 20 s."""


class PublisherTag(str):
    """The delivery tag of an attempt to publish a message, with the tag of the first attempt."""

    first: str


class PublishingChannel(GuardedChannel):
    """A channel that publishes over one client, which it keeps. Queues that are not the fleet's are
    served as by the stock channel."""

    fleet: Link | None = None

    def __init__(self, connection: Any, *args: Any, **kwargs: Any) -> None:
        self._kept_client: Any = None
        self._scripts: Scripts | None = None
        super().__init__(connection, *args, **kwargs)

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self.connection is None or self.connection.client is None:
            # A task that outlived its connection is acknowledged here. Celery expects an error of
            # the connection then; any other would end the worker.
            raise ConnectionError("the connection of this channel has been closed")
        if self._kept_client is None:
            self._kept_client = super()._create_client()
        return self._kept_client

    def _disconnect_pools(self) -> None:
        self._kept_client = self._scripts = None
        super()._disconnect_pools()

    @property
    def scripts(self) -> Scripts:
        """Fleet's scripts on the kept client."""
        if self._scripts is None:
            self._scripts = Scripts(self._create_client())
        return self._scripts

    def _next_delivery_tag(self) -> PublisherTag:
        return PublisherTag(super()._next_delivery_tag())

    def _inplace_augment_message(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> None:
        # All attempts of one publish share the properties; a later publish has others.
        properties = message["properties"]
        earlier = properties.get("delivery_tag")
        super()._inplace_augment_message(message, exchange, routing_key)
        tag = properties["delivery_tag"]
        tag.first = earlier.first if isinstance(earlier, PublisherTag) else tag

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        link = self.fleet
        if link is None or not link.owns(queue):
            super()._put(queue, message, **kwargs)
            return
        text = dumps(message)
        if not link.place(message, text):
            key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
            tag = message["properties"]["delivery_tag"]
            once = pushed(queue, getattr(tag, "first", tag))
            self._push(key, queue, once, message, text)
            self._maybe_update_queues_expire(self._create_client(), queue)

    def _push(self, key: str, queue: str, once: str, message: dict[str, Any], text: str) -> None:
        """Publish a message that the router did not plan, or schedule it if it has to wait."""
        link, wait, wake_list = self.fleet, seconds_until_eta(message), wake(queue)
        assert link is not None
        if wait > 0:
            expires_ms = self._expires.get(queue)
            kept = deferred(key, wake_list, dumps(without_eta(message)), expires_ms)
            keys = [Keys(link.tag).deferred, once]
            self.scripts.defer(keys=keys, args=[kept, int(wait * 1000), RESEND_SECONDS])
        else:
            self.scripts.push(keys=[key, wake_list, once], args=[text, RESEND_SECONDS])

    def defer(self, queue: str, message: dict[str, Any]) -> bool:
        """Keep a message in the schedule that another transport has sent before its time; in a
        worker it would hold a slot until then. Returns whether it was kept."""
        if not may_wait(message):
            return False
        key = self._q_for_pri(queue, self._get_message_priority(message, reverse=False))
        self._push(key, queue, pushed(queue, digest_of(message)), message, "")
        return True
