"""The Celery message of a task, protocol 2, as JSON text.

The message of a submission is written out by hand: a submission takes some 200 us in all, and
Celery's own code takes as long for the same text. Any Celery worker reads it. The payload is JSON
already and is not parsed again; a body of plain text needs no base64.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from celery.app.task import Context
from kombu.utils.json import dumps

from fleet.errors import MalformedMessage
from fleet.settings import FleetConfig
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


def message_encoder() -> Callable[[str, Checked], str]:
    """A function from a task's id and a checked submission to its message."""
    origin = f"{os.getpid()}@{socket.gethostname()}"

    def encode(task_id: str, checked: Checked) -> str:
        body = (
            f'[[{checked.payload}], {{"request_type": "{checked.request_type}", '
            f'"tenant": "{checked.tenant}", "complexity": {checked.complexity!r}'
            f"{_priorities(checked)}}}, {EMBEDDED}]"
        )
        return _envelope(task_id, task_name(checked.agent_type), checked, origin, body)

    return encode


def _priorities(checked: Checked) -> str:
    """The priorities that the caller gave, among the arguments."""
    given = (("quality", checked.quality), ("speed", checked.speed))
    return "".join(f', "{name}": {value!r}' for name, value in given if value is not None)


def _envelope(task_id: str, name: str, checked: Checked, origin: str, body: str) -> str:
    # Flower and the logs show this in place of the arguments: the payload may hold secrets.
    shown = f"{checked.request_type} for {checked.tenant}"
    return (
        f'{{"body": {json.dumps(body)}, "content-encoding": "utf-8", '
        f'"content-type": "application/json", "headers": {{"lang": "py", "task": "{name}", '
        f'"id": "{task_id}", "shadow": null, "eta": null, "expires": null, "group": null, '
        f'"group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "{task_id}", '
        f'"parent_id": null, "argsrepr": "{shown}", "kwargsrepr": "", "origin": "{origin}", '
        f'"ignore_result": true, "replaced_task_nesting": 0, "stamped_headers": null, '
        f'"stamps": {{}}}}, "properties": {{"correlation_id": "{task_id}", "reply_to": "", '
        f'"delivery_mode": 2, "delivery_info": {{"exchange": "", "routing_key": ""}}, '
        f'"priority": 0, "delivery_tag": "{task_id}"}}}}'
    )


def message_of(request: Context) -> str:
    """The message of a delivered task, to send it again: due at once, otherwise unchanged.
    Raises `MalformedMessage` if it cannot be written as JSON."""
    try:
        return _message_of(request)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise MalformedMessage(
            f"its parts cannot be written again ({type(error).__name__}); send it with headers and "
            "arguments that JSON can hold"
        ) from error


def _message_of(request: Context) -> str:
    embedded = {name: request.get(name) for name in FOLLOW_UPS}
    headers = {name: request.get(name) for name in KEPT_HEADERS}
    priority = (request.delivery_info or {}).get("priority") or 0
    message = {
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
    return str(dumps(message))


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


def content_of(message: dict[str, Any]) -> str:
    """A digest of a waiting message: equal for its copies, different for any other message."""
    headers = message["headers"]
    parts = [headers.get("id"), headers.get("eta"), message.get("body")]
    return sha256(dumps(parts).encode()).hexdigest()


def without_eta(message: dict[str, Any]) -> dict[str, Any]:
    """The same message without its ETA: it runs as soon as a worker takes it."""
    return {**message, "headers": {**message["headers"], "eta": None}}
