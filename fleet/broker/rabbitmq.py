"""A RabbitMQ that carries a fleet's messages, in quorum queues and with confirmed publishing."""

from __future__ import annotations

import os
import ssl
import struct
import threading
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import loads
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

from fleet.errors import InvalidConfig, MalformedMessage, NotAllowed, Unavailable
from fleet.settings.addresses import amqp_place, tls_of
from fleet.settings.tls import CHECK, check_files, tls_error

QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = 2
HEARTBEAT_SECONDS = 10
NO_MESSAGE = (
    *(AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError),
    struct.error,
)
"""What making a message of something else raises."""
NOT_YOU = (amqp.AccessRefused, amqp.NotAllowed)


def ssl_options(url: str) -> dict[str, Any] | None:
    """What TLS needs, in the names of py-amqp and Kombu; None without it."""
    found = tls_of(url)
    if found is None:
        return None
    foreign = {"ssl_ca_path", "ssl_password"} & set(found)
    if foreign:
        raise InvalidConfig(f"FLEET_BROKER_URL: amqps:// knows no {', '.join(sorted(foreign))}")
    check_files(found)
    checks_name = found.pop("ssl_check_hostname", True)
    wanted = {name.removeprefix("ssl_"): value for name, value in found.items()}
    if checks_name:
        wanted["server_hostname"] = urlsplit(url).hostname
    return wanted


def _login(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    return {
        "userid": unquote(parts.username or "guest"),
        "password": unquote(parts.password or "guest"),
        "virtual_host": unquote(parts.path[1:]) or "/",
    }


class RabbitMq:
    """One connection, opened when it is needed. Safe among threads, and made anew after a fork."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.timeout = url, timeout
        self._lock = threading.Lock()
        self._kept: Any = None
        self._declared: set[str] = set()
        self._owner = 0

    def ping(self) -> None:
        """Raise `Unavailable`, `NotAllowed` or `InvalidConfig` where no connection can be had."""
        with self._channel():
            pass

    def close(self) -> None:
        """Drop the connection; it is opened again when it is needed."""
        with self._lock:
            self._forget()

    def check(self, message: str) -> None:
        """Raise `MalformedMessage` for what cannot be published."""
        amqp_message(message)

    def publish(self, messages: Sequence[tuple[str, str]]) -> None:
        """Publish to queues, and return when all is confirmed."""
        was_kept = self._kept is not None
        try:
            self._publish(messages)
        except Unavailable:
            if not was_kept:
                raise
            # A connection that nobody has used for a while may have been cut long ago.
            self._publish(messages)

    def _publish(self, messages: Sequence[tuple[str, str]]) -> None:
        with self._channel() as channel:
            for queue, message in messages:
                self._declare(channel, queue)
                self._send(channel, queue, message)

    def move(self, queue: str, to: str, most: int) -> list[str]:
        """Move messages that wait in a queue to another one, the oldest first; the ids of their
        tasks. Whoever dies in between leaves them in both."""
        moved: list[str] = []
        with self._channel() as channel:
            for name in (queue, to):
                self._declare(channel, name)
            while len(moved) < most and (found := channel.basic_get(queue)) is not None:
                channel.basic_publish(found, exchange="", routing_key=to, mandatory=True)
                channel.basic_ack(found.delivery_tag)
                moved.append(str(found.properties["application_headers"]["id"]))
        return moved

    def count(self, queue: str) -> int:
        """How many messages wait in a queue, those that consumers hold left out. Where somebody has
        deleted the queue it is there again afterwards."""
        with self._channel() as channel:
            found = channel.queue_declare(
                queue, durable=True, auto_delete=False, arguments=QUORUM
            )
            return int(found.message_count)

    def _declare(self, channel: Any, queue: str) -> None:
        if queue not in self._declared:
            channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUORUM)
            self._declared.add(queue)

    def _send(self, channel: Any, queue: str, message: str) -> None:
        channel.basic_publish(
            amqp_message(message),
            exchange="",
            routing_key=queue,
            # Else RabbitMQ confirms a message for a queue that was deleted since, and drops it.
            mandatory=True,
            timeout=self.timeout,
        )

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with self._lock, rabbitmq_errors(self.url):
            try:
                yield self._opened()
            except Exception:
                # Whatever it was: the next one begins with a connection of its own.
                self._forget()
                raise

    def _opened(self) -> Any:
        """The one channel of the connection."""
        if self._owner != os.getpid():
            # What was opened before a fork is the parent's.
            self._kept, self._owner = None, os.getpid()
        if self._kept is None:
            self._declared.clear()
            connection = amqp.Connection(
                amqp_place(self.url),
                login_method="PLAIN",
                **_login(self.url),
                ssl=ssl_options(self.url) or False,
                connect_timeout=self.timeout,
                read_timeout=self.timeout,
                write_timeout=self.timeout,
                confirm_publish=True,
            )
            connection.connect()
            self._kept = connection.channel()
        return self._kept

    def _forget(self) -> None:
        found, self._kept = self._kept, None
        if found is not None and found.connection is not None:
            # A farewell would wait for an answer that may never come.
            found.connection.collect()


def amqp_message(text: str) -> Any:
    """A message of Kombu's as py-amqp sends it. Raises `MalformedMessage` for what is none."""
    try:
        message = loads(text)
        properties, body = message["properties"], message["body"]
        if properties.get("body_encoding") == "base64":
            body = b64decode(body)
        made = amqp.Message(
            body,
            application_headers=message["headers"],
            content_type=message["content-type"],
            content_encoding=message["content-encoding"],
            correlation_id=properties["correlation_id"],
            reply_to=properties.get("reply_to") or None,
            delivery_mode=PERSISTENT,
        )
        made._serialize_properties()
        return made
    except (amqp.AMQPError, *NO_MESSAGE) as error:
        raise MalformedMessage(
            f"RabbitMQ can carry no such message ({type(error).__name__})"
        ) from error


@contextmanager
def rabbitmq_errors(url: str) -> Iterator[None]:
    """Turn what py-amqp raises into Fleet's errors, with the cause chained."""
    where = amqp_place(url)
    try:
        yield
    except NOT_YOU as error:
        raise NotAllowed(
            f"RabbitMQ at {where} refused the user, the password or the user's rights "
            f"({error.reply_code} {type(error).__name__}); check FLEET_BROKER_URL"
        ) from error
    except amqp.PreconditionFailed as error:
        raise InvalidConfig(
            f"RabbitMQ at {where}: {error.reply_text}; a queue of this name is there and is no "
            "quorum queue: delete it"
        ) from error
    except ssl.SSLError as error:
        raise InvalidConfig(
            f"TLS with RabbitMQ at {where} failed ({tls_error(error)}); {CHECK}"
        ) from error
    except (amqp.AMQPError, OSError) as error:
        raise Unavailable(
            f"RabbitMQ at {where} does not answer ({type(error).__name__}); start it, or correct "
            "FLEET_BROKER_URL"
        ) from error
