"""The Celery message of a task, protocol 2, as JSON text.

The message of a submission is written out by hand: a submission takes some 200 us in all, and
Celery's own code takes as long for the same text. Any Celery worker reads it. The payload is JSON
already and is not parsed again; a body of plain text needs no base64.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Protocol

from celery.app.task import Context
from kombu.utils.json import dumps

from fleet.broker.rules.signatures import SIGNATURE, Content
from fleet.errors import InvalidRequest, MalformedMessage
from fleet.settings import FleetConfig
from fleet.tasks.kept_messages import PARSE_ERRORS, readdressed, unreadable
from fleet.tasks.submission.checks import Checked

TASK_PREFIX = "agents."
HEADER = "fleet"
"""The header that holds the request to Fleet, see `submission.py`."""

FOLLOW_UPS = ("callbacks", "errbacks", "chain", "chord")
"""Parts of a body that name the tasks to run after this one."""

KEPT_HEADERS = (
    *("lang", "task", "id", "shadow", "expires", "group", "group_index", "retries", "timelimit"),
    *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"),
    *("replaced_task_nesting", "stamped_headers", "stamps"),
)
"""Celery's headers that a message keeps when it is sent again: all but `eta`."""

EMBEDDED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


def task_name(agent_type: str) -> str:
    """The Celery name of an agent type's task."""
    return TASK_PREFIX + agent_type


def agent_tasks_of(config: FleetConfig) -> frozenset[str]:
    """The Celery names of a fleet's agents' tasks. Any other task is a user's own, whatever prefix
    its name has."""
    return frozenset(map(task_name, config.agent_types))


class Signer(Protocol):
    """Signs messages: `fleet.broker.signing.MessageSigner`."""

    def sign(self, content: Content, wait_seconds: float = 0.0) -> dict[str, Any]:
        """The header that signs a message."""

    def sign_submission(self, task_id: str, body: str, headers: str) -> str:
        """The header, as JSON, that signs the message of a submission."""

    def refusal(self, content: Content) -> str:
        """Why a message that this fleet signed earlier does not count any more, or ''."""


def canonical(value: Any) -> str:
    """A value as JSON with sorted keys."""
    return str(dumps(value, sort_keys=True))


class CeleryMessages:
    """Writes the messages of a process, signed if it has a signer."""

    def __init__(self, signer: Signer | None = None) -> None:
        self.signer = signer
        self._origin = json.dumps(f"{os.getpid()}@{socket.gethostname()}")

    def __call__(self, task_id: str, checked: Checked) -> str:
        """The message of a checked submission. Raises the errors of the signer."""
        body = (
            f'[[{checked.payload}], {{"request_type": "{checked.request_type}", '
            f'"tenant": "{checked.tenant}", "complexity": {checked.complexity!r}'
            f"{_priorities(checked)}}}, {EMBEDDED}]"
        )
        # Flower and the logs show this in place of the arguments: the payload may hold secrets.
        shown = f"{checked.request_type} for {checked.tenant}"
        # In the order of their names, as they are signed.
        headers = (
            f'"argsrepr": "{shown}", "expires": null, "group": null, "group_index": null, '
            f'"id": "{task_id}", "ignore_result": true, "kwargsrepr": "", "lang": "py", '
            f'"origin": {self._origin}, "parent_id": null, "replaced_task_nesting": 0, '
            f'"retries": 0, "root_id": "{task_id}", "shadow": null, "stamped_headers": null, '
            f'"stamps": {{}}, "task": "{task_name(checked.agent_type)}", "timelimit": [null, null]'
        )
        return self._envelope(task_id, headers, body)

    def _envelope(self, task_id: str, headers: str, body: str) -> str:
        signed = ""
        if self.signer is not None:
            signature = self.signer.sign_submission(task_id, body, f"{{{headers}}}")
            signed = f', "{SIGNATURE}": {signature}'
        return (
            f'{{"body": {json.dumps(body)}, "content-encoding": "utf-8", '
            f'"content-type": "application/json", "headers": {{{headers}, "eta": null{signed}}}, '
            f'"properties": {{"correlation_id": "{task_id}", "reply_to": "", '
            f'"delivery_mode": 2, "delivery_info": {{"exchange": "", "routing_key": ""}}, '
            f'"priority": 0, "delivery_tag": "{task_id}"}}}}'
        )

    def readdress(self, message: str, task_id: str) -> str:
        """The message of a kept task for another task, signed anew.

        Raises `InvalidRequest` if the message cannot be parsed, or was altered while it was kept.
        """
        moved = readdressed(message, task_id)
        if self.signer is None:
            return moved
        try:
            refusal = self.signer.refusal(content_of(json.loads(message)))
        except PARSE_ERRORS as error:
            raise unreadable() from error
        if refusal:
            raise InvalidRequest(
                f"the stored message is not sent again: {refusal}; submit the request again"
            )
        return self.written(json.loads(moved))

    def of_delivery(self, request: Context) -> str:
        """The message of a delivered task, to send it again: due at once, otherwise unchanged.
        Raises `MalformedMessage` if it cannot be written as JSON."""
        try:
            return self.written(_message_of(request))
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise MalformedMessage(
                f"its parts cannot be written again ({type(error).__name__}); send it with headers "
                "and arguments that JSON can hold"
            ) from error

    def written(self, message: dict[str, Any]) -> str:
        """A message as JSON, signed anew."""
        headers = {name: each for name, each in message["headers"].items() if name != SIGNATURE}
        if self.signer is not None:
            headers[SIGNATURE] = self.signer.sign(content_of(message))
        return str(dumps({**message, "headers": headers}))


def message_encoder(signer: Signer | None = None) -> CeleryMessages:
    """What writes the messages of a process. Without a signer it signs none."""
    return CeleryMessages(signer)


def _priorities(checked: Checked) -> str:
    """The priorities that the caller gave, among the arguments."""
    given = (("quality", checked.quality), ("speed", checked.speed))
    return "".join(f', "{name}": {value!r}' for name, value in given if value is not None)


def content_of(message: Mapping[str, Any]) -> Content:
    """The signed content of a message as it is in a queue."""
    properties, body = message["properties"], message["body"]
    is_base64 = properties.get("body_encoding") == "base64"
    return Content(
        headers=message["headers"],
        body=base64.b64decode(body) if is_base64 else body.encode(),
        content_type=message.get("content-type") or "",
        content_encoding=message.get("content-encoding") or "",
        priority=properties.get("priority") or 0,
        reply_to=properties.get("reply_to") or "",
        correlation_id=properties.get("correlation_id") or "",
    )


def _message_of(request: Context) -> dict[str, Any]:
    embedded = {name: request.get(name) for name in FOLLOW_UPS}
    headers = {name: request.get(name) for name in KEPT_HEADERS}
    priority = (request.delivery_info or {}).get("priority") or 0
    return {
        "body": dumps([request.args, request.kwargs, embedded]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {**(request.headers or {}), **headers, "eta": None},
        "properties": {
            "correlation_id": request.id,
            "reply_to": request.reply_to or "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": ""},
            "priority": priority,
            "delivery_tag": request.id,
        },
    }


# A message with an ETA waits in Redis, and has no ETA when a worker takes it. A worker of stock
# Celery takes such a message at once and keeps it in its memory.


def seconds_until_eta(message: dict[str, Any]) -> float:
    """How long a message still has to wait, in seconds, at its publisher; 0 if it need not.

    Celery turns a countdown into a time by the publisher's clock. The same clock turns it back into
    a wait here, which Redis's clock then measures. So a countdown is exact even if the publisher's
    clock is wrong.
    """
    eta = (message.get("headers") or {}).get("eta")
    if not eta:
        return 0.0
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def may_wait(message: dict[str, Any]) -> bool:
    """Whether a message, which anybody may have written, has a valid ETA in the future."""
    try:
        return seconds_until_eta(message) > 0
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False


def digest_of(message: dict[str, Any]) -> str:
    """A digest of a waiting message: equal for its copies, different for any other message."""
    headers = message["headers"]
    parts = [headers.get("id"), headers.get("eta"), message.get("body")]
    return sha256(dumps(parts).encode()).hexdigest()


def without_eta(message: dict[str, Any]) -> dict[str, Any]:
    """The same message without its ETA: it runs as soon as a worker takes it."""
    return {**message, "headers": {**message["headers"], "eta": None}}
