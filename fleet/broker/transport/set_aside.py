"""Sets malformed messages aside: nothing that a queue holds ends a worker or its consumer.

A message that lacks a part raises an error where the part is used. That would end the consumer or
the worker, and the message would go back, for the next one. Here each is kept with its reason in a
bounded list (`fleet.tasks.set_aside_store`), and acknowledged. Errors of the connection pass: they
say nothing about the message.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import structlog
from celery import Celery, bootsteps
from kombu.exceptions import ChannelError, OperationalError
from kombu.exceptions import ConnectionError as BrokerError
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError

from fleet.broker.transport.malformed import (
    check_addressed,
    check_envelope,
    check_task,
    read_envelope,
)
from fleet.errors import FleetError, MalformedMessage
from fleet.redis.keys import Keys
from fleet.tasks.connection import Connection
from fleet.tasks.set_aside_store import SetAside

NOT_ITS_FAULT = (
    *(RedisError, BrokerError, ChannelError, OperationalError, FleetError),
    *(ConnectionError, TimeoutError),
)
"""Errors that a message did not cause, while it was taken."""

log = structlog.get_logger(__name__)


class Message(virtual.Message):
    """A message whose parts can be decoded; `MalformedMessage` where they cannot."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except Exception as error:
            raise MalformedMessage(f"it cannot be decoded ({type(error).__name__})") from error


class GuardedChannel(redis.Channel):
    """A stock channel that hands messages on, and sets malformed ones aside."""

    Message = Message
    fleet: Any = None
    scripts: Any
    #: The delivery tags of what was taken and is not handed on yet.
    noted: set[str]
    #: Keep a message for later whose time has not come. Whether it was kept.
    put_off: Callable[[str, dict[str, Any]], bool]

    @property
    def set_aside(self) -> SetAside:
        """Where malformed messages go."""
        return SetAside(self._create_client(), Keys(self.fleet.tag), self.scripts)

    def hand_on_noted(self, queue: str, tag: str, raw: bytes) -> None:
        """Hand on what `fetch.lua` took, and noted under `tag`."""
        try:
            message = read_envelope(raw)
            if not self.put_off(queue, message):
                message["properties"]["delivery_tag"] = tag
                self.connection._deliver(message, queue)
                return
        except MalformedMessage as error:
            self._keep(queue, raw, error)
        self.noted.discard(tag)
        self.qos.ack(tag)

    def hand_on_popped(self, queue: str, raw: bytes) -> None:
        """Hand on what was popped of a plain queue: it is noted nowhere yet."""
        try:
            message = read_envelope(raw)
            check_addressed(message)
            if message["properties"]["delivery_tag"] in self.qos._delivered:
                # Two with one tag would be acknowledged as one.
                message["properties"]["delivery_tag"] = uuid4().hex
            self.connection._deliver(message, queue)
        except MalformedMessage as error:
            self._keep(queue, raw, error)

    def hand_on_broadcast(self, exchange: str, queue: str, raw: bytes) -> None:
        """Hand on what every worker hears. In a worker's loop no error of its handling passes."""
        try:
            self.connection._deliver(read_envelope(raw), queue)
        except NOT_ITS_FAULT as error:
            if not isinstance(error, MalformedMessage):
                raise
            self._keep_broadcast(exchange, raw, error)
        except Exception as error:
            if not self.connection.in_event_loop:
                raise
            self._keep_broadcast(exchange, raw, error)

    def _keep(self, queue: str, raw: bytes, error: Exception) -> None:
        log.error("a malformed message is set aside", queue=queue, reason=str(error))
        self.set_aside.keep(queue, raw, str(error))

    def _keep_broadcast(self, exchange: str, raw: bytes, error: Exception) -> None:
        reason = str(error) if isinstance(error, MalformedMessage) else _reason(error)
        log.error("a malformed broadcast is set aside", exchange=exchange, reason=reason)
        self.set_aside.keep_broadcast(exchange, raw, reason)

    def _receive_one(self, c: Any) -> Any:
        if self.fleet is None:
            return super()._receive_one(c)
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(response, list | tuple):
            return None
        heard = self._handle_message(c, response)
        raw = heard["data"]
        if not bytes_to_str(heard["type"]).endswith("message") or not raw:
            return None
        name = bytes_to_str(heard["channel"])
        if name.startswith("/"):
            name = name.partition(".")[2]
        exchange = name.split("/", 1)[0]
        self.hand_on_broadcast(exchange, self._fanout_to_queue[exchange], raw)
        return True

    def _do_restore_message(
        self, payload: Any, exchange: Any, routing_key: Any, pipe: Any, leftmost: bool = False
    ) -> None:
        # The stock channel would let go of one that cannot be put back.
        check_envelope(payload)
        if not isinstance(exchange, str) or not isinstance(routing_key, str):
            raise MalformedMessage("it is noted under no exchange and routing key")
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)


def add_setting_aside(app: Celery, fleet: Connection) -> None:
    """Let the application's workers set aside what is no task, whatever broker brought it."""

    class SettingAside(bootsteps.Step):
        """Stands before Celery's own handlers, from before the first message."""

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            if not hasattr(consumer, "create_task_handler"):
                return
            keep = _keeper(fleet)
            consumer.create_task_handler = _guarded(consumer.create_task_handler, keep)
            unknown = consumer.on_unknown_task

            def on_decode_error(message: Any, error: Exception) -> None:
                keep(message, f"its body cannot be decoded ({type(error).__name__})")

            def on_unknown_task(body: Any, message: Any, error: Exception) -> None:
                name = message.headers.get("task") or message.payload["task"]
                keep(message, f"no task is called {name!r:.100} in this worker", acknowledge=False)
                unknown(body, message, error)

            consumer.on_decode_error = on_decode_error
            consumer.on_unknown_task = on_unknown_task

    app.steps["consumer"].add(SettingAside)


Keeper = Callable[..., None]


def _keeper(fleet: Connection) -> Keeper:
    def keep(message: Any, reason: str, *, acknowledge: bool = True) -> None:
        info = message.delivery_info or {}
        queue = str(info.get("routing_key") or info.get("exchange") or "")
        log.error("a malformed message is set aside", queue=queue, reason=reason)
        fleet.tasks.set_aside.keep(queue, as_text(message), reason)
        if acknowledge and not message.acknowledged:
            message.ack()

    return keep


def _guarded(create: Callable[..., Any], keep: Keeper) -> Callable[..., Any]:
    def create_task_handler(*args: Any, **options: Any) -> Callable[[Any], Any]:
        handle = create(*args, **options)

        def on_task_received(message: Any) -> Any:
            try:
                check_task(message)
                return handle(message)
            except MalformedMessage as error:
                return keep(message, str(error))
            except NOT_ITS_FAULT:
                raise
            except Exception as error:
                log.exception("a message could not be taken")
                return keep(message, _reason(error))

        return on_task_received

    return create_task_handler


def _reason(error: Exception) -> str:
    """An error of others, in words: its own may repeat the message."""
    return f"taking it raised {type(error).__name__}"


def as_text(message: Any) -> bytes:
    """A Kombu message as it stood in its queue."""
    try:
        return json.dumps(message._raw, default=repr).encode(errors="backslashreplace")
    except (RecursionError, TypeError, ValueError):
        return b"(a message that cannot be written)"
