"""Sets malformed messages aside, so that no message can end a worker or its consumer.

A message that lacks a part raises an error when the part is used. The error would end the consumer
or the worker, and the message would be requeued for the next one. Here each such message is kept
with a reason in a bounded list (`fleet.tasks.set_aside_store`), and acknowledged. Errors of the
connection are raised as before: they say nothing about the message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

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
from fleet.errors import FleetError, InvalidRequest, MalformedMessage, RetryLater, TaskNotFound
from fleet.redis.keys import Keys
from fleet.tasks.connection import Connection
from fleet.tasks.rules import ENDED
from fleet.tasks.set_aside_store import SetAside
from fleet.telemetry.logger import get_logger

OTHER_ERRORS = (
    *(RedisError, BrokerError, ChannelError, OperationalError, FleetError),
    *(ConnectionError, TimeoutError),
)
"""Errors that the message did not cause."""

log = get_logger(__name__)


class Message(virtual.Message):
    """A message whose parts can be decoded. Raises `MalformedMessage` if they cannot."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        try:
            super().__init__(payload, channel=channel, **kwargs)
        except Exception as error:
            raise MalformedMessage(f"it cannot be decoded ({type(error).__name__})") from error


class GuardedChannel(redis.Channel):
    """A stock channel that sets malformed messages aside."""

    Message = Message
    fleet: Any = None
    scripts: Any
    #: The delivery tags of messages that were fetched and are not passed on yet.
    noted: set[str]
    #: Schedules a message whose time has not come. Returns whether it was scheduled.
    defer: Callable[[str, dict[str, Any]], bool]

    @property
    def set_aside(self) -> SetAside:
        """The list of malformed messages."""
        return SetAside(self._create_client(), Keys(self.fleet.tag), self.scripts)

    def hand_on_noted(self, queue: str, tag: str, raw: bytes) -> None:
        """Pass on a message that `fetch.lua` took and noted under `tag`."""
        try:
            message = read_envelope(raw, self.fleet.max_bytes)
            if not self.defer(queue, message):
                message["properties"]["delivery_tag"] = tag
                self.connection._deliver(message, queue)
                return
        except MalformedMessage as error:
            self._keep(queue, raw, error)
        self.noted.discard(tag)
        self.qos.ack(tag)

    def hand_on_popped(self, queue: str, raw: bytes) -> None:
        """Pass on a message that was popped from a plain queue, and is noted nowhere yet."""
        try:
            message = read_envelope(raw, self.fleet.max_bytes)
            check_addressed(message)
            if message["properties"]["delivery_tag"] in self.qos._delivered:
                # Two messages with one tag would be acknowledged as one.
                message["properties"]["delivery_tag"] = uuid4().hex
            self.connection._deliver(message, queue)
        except MalformedMessage as error:
            self._keep(queue, raw, error)

    def hand_on_broadcast(self, exchange: str, queue: str, raw: bytes) -> None:
        """Pass on a broadcast. In a worker's event loop, errors of its handler are not raised."""
        try:
            self.connection._deliver(read_envelope(raw), queue)
        except OTHER_ERRORS as error:
            if not isinstance(error, MalformedMessage):
                raise
            self._keep_broadcast(exchange, raw, error)
        except Exception as error:
            if not self.connection.in_event_loop:
                raise
            self._keep_broadcast(exchange, raw, error)

    def _keep(self, queue: str, raw: bytes, error: Exception) -> None:
        log.error("setting a malformed message aside", queue=queue, reason=str(error))
        self.set_aside.keep(queue, raw, str(error))

    def _keep_broadcast(self, exchange: str, raw: bytes, error: Exception) -> None:
        reason = str(error) if isinstance(error, MalformedMessage) else _reason(error)
        log.error("setting a malformed broadcast aside", exchange=exchange, reason=reason)
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
        # The stock channel would lose a message that cannot be requeued.
        check_envelope(payload)
        if not isinstance(exchange, str) or not isinstance(routing_key, str):
            raise MalformedMessage("it is noted under no exchange and routing key")
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)


def add_setting_aside(
    app: Celery, fleet: Connection, refusal: Callable[[Any], str]
) -> None:
    """Have the application's workers set aside messages that are no tasks, with any broker.
    `refusal` says why a message may not become a task, or ''."""

    class SettingAside(bootsteps.Step):
        """Wraps Celery's own handlers before the first message."""

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            if not hasattr(consumer, "create_task_handler"):
                return
            keep = _keeper(fleet, app.role.pool)
            consumer.create_task_handler = _guarded(consumer.create_task_handler, refusal, keep)
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


def _keeper(fleet: Connection, pool: str) -> Keeper:
    def keep(message: Any, reason: str, *, acknowledge: bool = True) -> None:
        info = message.delivery_info or {}
        queue = str(info.get("routing_key") or info.get("exchange") or "")
        log.error("setting a malformed message aside", queue=queue, reason=reason)
        fleet.tasks.set_aside.keep(queue, as_text(message), reason)
        if acknowledge and not message.acknowledged:
            message.ack()
            if pool and isinstance(message.headers, Mapping):
                _free_slot(fleet, pool, message.headers.get("id"))

    return keep


def _free_slot(fleet: Connection, pool: str, task_id: object) -> None:
    """Free the slot that the fetch took for a message. A real task of the same id keeps its own."""
    if not isinstance(task_id, str):
        return
    # If Redis does not answer, or no name can hold the id, the reaper frees the slot.
    with suppress(RetryLater, InvalidRequest):
        try:
            holds_slot = fleet.tasks.records.state(task_id) not in ENDED
        except TaskNotFound:
            holds_slot = False
        if not holds_slot:
            fleet.tasks.records.free_slot(task_id, pool)


def _guarded(
    create: Callable[..., Any], refusal: Callable[[Any], str], keep: Keeper
) -> Callable[..., Any]:
    def create_task_handler(*args: Any, **options: Any) -> Callable[[Any], Any]:
        handle = create(*args, **options)

        def on_task_received(message: Any) -> Any:
            try:
                refused = refusal(message)
                if refused:
                    return keep(message, f"refused: {refused}")
                check_task(message)
                return handle(message)
            except MalformedMessage as error:
                return keep(message, str(error))
            except OTHER_ERRORS:
                raise
            except Exception as error:
                log.exception("handling a message failed")
                return keep(message, _reason(error))

        return on_task_received

    return create_task_handler


def _reason(error: Exception) -> str:
    """A reason without the error's text, which may repeat the message."""
    return f"handling it raised {type(error).__name__}"


def as_text(message: Any) -> bytes:
    """A Kombu message as it was in its queue."""
    try:
        return json.dumps(message._raw, default=repr).encode(errors="backslashreplace")
    except (RecursionError, TypeError, ValueError):
        return b"(a message that cannot be written)"
