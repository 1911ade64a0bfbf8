"""Signs the messages that a process sends, and checks those that a worker takes.

    MessageSigner    the keys, and how long a signature is valid
    SigningProducer  signs whatever an application of `make_app` publishes
    sign_published   signs the agents' tasks of an application of its own, see `task_routes`
    MessageGuard     what a worker asks about each message, before it becomes a task

What is signed, and why a message is refused, is in `fleet.broker.rules.signatures`. A message that
Fleet moves, such as one that is requeued, keeps its signature: it is written once, by its sender.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from celery.signals import before_task_publish
from kombu.serialization import dumps as serialize
from kombu.utils.json import dumps, loads

from fleet.broker.messages import HEADER, agent_tasks_of, canonical, seconds_until_eta
from fleet.broker.rules.signatures import (
    JSON,
    SIGNATURE,
    Content,
    MessageCheck,
    Signature,
    signed_headers,
    signed_text,
)
from fleet.errors import InvalidRequest, MalformedMessage, TaskNotFound
from fleet.secrets.signing_keys import SigningKey, SigningKeys
from fleet.settings import FleetConfig
from fleet.tasks.connection import Connection

NEVER_SENT = frozenset({"celery.chain", "celery.chord", "celery.chunks", "celery.group"})
"""Tasks of Celery's that stand for others, and are never sent themselves."""


def message_check(
    config: FleetConfig, keys: SigningKeys | None, agent_tasks: frozenset[str]
) -> MessageCheck:
    """The check of a fleet's messages; `keys` is None if they are not signed."""
    return MessageCheck(
        verifier=keys.verifier if keys else lambda _: None,
        dump=canonical,
        max_bytes=config.message_bytes,
        signed=keys is not None,
        accepts_unsigned=config.messages.accept_unsigned,
        agent_tasks=agent_tasks,
        never_sent=NEVER_SENT,
    )


class MessageSigner:
    """Signs messages with the current key.

    The signature of an agent's task is valid for at most as long as a record of it is kept: a
    message that is published once more after that is refused. `clock` is in seconds since 1970.
    """

    def __init__(
        self,
        keys: SigningKeys,
        config: FleetConfig,
        agent_tasks: frozenset[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        limits, valid = config.limits, config.messages.valid_seconds
        self.keys = keys
        self.agent_tasks = agent_tasks
        self.valid_seconds = valid
        self.agent_valid_seconds = min(valid, limits.result_ttl_seconds, limits.dead_ttl_seconds)
        self._clock = clock
        self._check = message_check(config, keys, agent_tasks)

    def refusal(self, content: Content) -> str:
        """Why a kept message does not fit its signature; '' if it does, however old it is."""
        return self._check.refusal(content, self._clock(), lambda _: True)

    def sign(self, content: Content, wait_seconds: float = 0.0) -> dict[str, Any]:
        """The header that signs a message, which is due in `wait_seconds`. Raises the errors of
        `SigningKeys.current`."""
        is_agents = content.headers.get("task") in self.agent_tasks
        seconds = self.agent_valid_seconds if is_agents else self.valid_seconds
        # What a worker reads: keys of objects are strings, and tuples are lists.
        headers = canonical(signed_headers(loads(dumps(content.headers))))
        eta = content.headers.get("eta")
        return self._signed(content, headers, eta, seconds + wait_seconds).header

    def sign_submission(self, task_id: str, body: str, headers: str) -> str:
        """The header, as JSON, that signs the message of a submission. `headers` are its headers as
        JSON with sorted keys."""
        content = Content({}, body.encode(), JSON, "utf-8", 0, "", task_id)
        key_id, until, _, code = self._signed(content, headers, None, self.agent_valid_seconds)
        # By hand, as the message: `json.dumps` takes as long as all else here.
        return f'{{"key": "{key_id}", "until": {until}, "eta": null, "code": "{code.hex()}"}}'

    def _signed(
        self, content: Content, headers: str, eta: str | None, seconds: float
    ) -> Signature:
        key: SigningKey = self.keys.current()
        assert key.sign is not None
        until = int(self._clock() + seconds)
        return Signature(
            key.id, until, eta, key.sign(signed_text(key.id, until, eta, content, headers))
        )


class SigningProducer:
    """Stands in for a producer while a task is published: bounds the message, and signs it."""

    def __init__(self, producer: Any, signer: MessageSigner | None, max_bytes: int) -> None:
        self._producer = producer
        self._signer = signer
        self._max_bytes = max_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *args: Any, **options: Any) -> Any:
        """Publish. Raises `InvalidRequest` for a message that every worker would refuse."""
        headers = options.get("headers") or {}
        if "task" not in headers:
            # An event of Celery's.
            return self._producer.publish(body, *args, **options)
        serializer, content_type = options.pop("serializer", None), options.get("content_type")
        encoding = options.get("content_encoding")
        body, content_type, encoding = self._producer._prepare(
            body, serializer, content_type, encoding
        )
        _check_size(str(headers["task"]), len(body), self._max_bytes)
        options.update(content_type=content_type, content_encoding=encoding)
        if self._signer is not None:
            _check_signable(headers, content_type, options.get("compression"))
            content = Content(
                *(headers, _bytes(body), content_type, encoding, options.get("priority") or 0),
                *(options.get("reply_to") or "", options.get("correlation_id") or ""),
            )
            wait = _seconds_until(headers.get("eta"))
            options["headers"] = {**headers, SIGNATURE: self._signer.sign(content, wait)}
        return self._producer.publish(body, *args, **options)


def _check_size(name: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise InvalidRequest(
            f"the message of {name} has {size} bytes, and messages.max_bytes allows {max_bytes}; "
            "send less, or put the data where the worker can read it"
        )


def _check_signable(headers: Mapping[str, Any], content_type: str, compression: Any) -> None:
    if content_type != JSON:
        raise InvalidRequest(
            f"{headers['task']} is serialized as {content_type}, and signed messages are JSON; "
            "leave the serializer out, or set messages.signing to \"off\""
        )
    if compression:
        raise InvalidRequest(
            f"{headers['task']} is compressed, and signed messages are not; leave compression out, "
            "also in task_compression, or set messages.signing to \"off\""
        )


def sign_published(headers: Any = None, body: Any = None, properties: Any = None, **_: Any) -> None:
    """Sign an agent's task that an application of its own publishes: Celery's signal
    `before_task_publish`. The router has put the signer into the header with the request."""
    asked = (headers or {}).get(HEADER)
    signer = getattr(asked, "signer", None)
    if signer is None:
        return
    content_type, encoding, data = serialize(body, serializer="json")
    content = Content(
        *(headers, _bytes(data), content_type, encoding, properties.get("priority") or 0),
        *(properties.get("reply_to") or "", properties.get("correlation_id") or ""),
    )
    headers[SIGNATURE] = signer.sign(content, _seconds_until(headers.get("eta")))


def sign_what_is_published() -> None:
    """Sign from now on what this process publishes through a router with a signer. It has to be the
    last receiver of the signal: it signs the headers that others add."""
    before_task_publish.connect(sign_published, weak=False, dispatch_uid="fleet.sign_published")


def _seconds_until(eta: Any) -> float:
    return seconds_until_eta({"headers": {"eta": eta}})


def _bytes(data: Any) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def message_signer(connection: Connection) -> MessageSigner | None:
    """The signer of a process; None if `messages.signing` is off. Reads no key yet."""
    config = connection.settings.config
    kind = config.messages.signing
    if kind == "off":
        return None
    keys = SigningKeys(connection.secrets, kind, time.monotonic)
    return MessageSigner(keys, config, agent_tasks_of(config))


class MessageGuard:
    """Says of each message that a worker takes why it may not become a task."""

    def __init__(self, connection: Connection, signer: MessageSigner | None) -> None:
        config = connection.settings.config
        self._records = connection.tasks.records
        self._keys = signer.keys if signer else None
        self._check = message_check(config, self._keys, agent_tasks_of(config))

    def prepare(self) -> None:
        """Read the keys, so that a worker without any does not start. Raises the errors of
        `SigningKeys`."""
        if self._keys is not None:
            self._keys.load()

    def refusal(self, message: Any) -> str:
        """Why a Kombu message is refused; '' if it may become a task. Raises `MalformedMessage`,
        and `Unavailable` if Redis has to be asked and does not answer."""
        return self._check.refusal(content_of_message(message), time.time(), self._is_recorded)

    def _is_recorded(self, task_id: str) -> bool:
        try:
            self._records.state(task_id)
        except TaskNotFound:
            return False
        return True


def content_of_message(message: Any) -> Content:
    """The signed content of a Kombu message. Raises `MalformedMessage`."""
    headers, properties = message.headers, message.properties
    if not isinstance(headers, Mapping) or not isinstance(properties, Mapping):
        raise MalformedMessage("its headers or its properties are no object")
    body = message.body if message.body is not None else b""
    if not isinstance(body, str | bytes | bytearray | memoryview):
        raise MalformedMessage("its body is neither text nor bytes")
    priority = properties.get("priority")
    if priority is not None and type(priority) is not int:
        raise MalformedMessage("its priority is no whole number")
    texts = (message.content_type, message.content_encoding)
    texts += tuple(properties.get(name) for name in ("reply_to", "correlation_id"))
    if not all(each is None or isinstance(each, str) for each in texts):
        raise MalformedMessage("its content type, encoding or addresses are no text")
    kind, encoding, reply_to, correlation_id = (each or "" for each in texts)
    return Content(
        headers, _bytes(body), kind, encoding, priority or 0, reply_to, correlation_id
    )
