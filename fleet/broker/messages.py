"""The Celery message of a task, protocol 2, as JSON text.

That of a submission is written out by hand because a submission takes some 200 us in all, and
Celery's own way to the same text takes as long. Any Celery worker reads it. The payload is JSON
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
"""The header that says what is asked of Fleet, see `router.py`."""

FOLLOWS = ("callbacks", "errbacks", "chain", "chord")
"""Parts of a body that say what is to follow the task."""

KEPT = (
    *("lang", "task", "id", "shadow", "expires", "group", "group_index", "retries", "timelimit"),
    *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"),
    *("replaced_task_nesting", "stamped_headers", "stamps"),
)
"""Celery's headers of a message that it keeps when it is sent again: all but `eta`."""

EMBEDDED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


def task_name(agent_type: str) -> str:
    """The Celery name of an agent type's task."""
    return TASK_PREFIX + agent_type


def agent_tasks_of(config: FleetConfig) -> frozenset[str]:
    """The Celery names of a fleet's agents' tasks. Any other task is a user's own, however its name
    begins."""
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
    # What Flower and the logs show of the arguments: never the payload, it may hold secrets.
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
    """The message of a delivered task, to send it again by: due at once, the rest as it came.
    Raises `MalformedMessage` where it cannot be written."""
    try:
        return _message_of(request)
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise MalformedMessage(
            f"its parts cannot be written again ({type(error).__name__}); send it with headers and "
            "arguments that JSON can hold"
        ) from error


def _message_of(request: Context) -> str:
    embedded = {name: request.get(name) for name in FOLLOWS}
    headers = {name: request.get(name) for name in KEPT}
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


# The time before which a Celery message shall not run, taken from it.
#
# A worker of stock Celery takes such a message and keeps it in its memory. Here it waits in Redis,
# and carries no time when it is taken.

def seconds_until_eta(message: dict[str, Any]) -> float:
    """How long a message has to wait from now on, at its publisher; 0 where it has not.

    Celery makes a time of a countdown by the publisher's clock. So the same clock makes a wait of
    it again, which Redis's clock measures: a countdown is exact, whatever the publisher's clock
    says.
    """
    eta = (message.get("headers") or {}).get("eta")
    if not eta:
        return 0.0
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def may_wait(message: dict[str, Any]) -> bool:
    """Whether a message that anybody may have written has to wait, by a time that is one."""
    try:
        return seconds_until_eta(message) > 0
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False


def content_of(message: dict[str, Any]) -> str:
    """A short text that is another one for each message that may wait, however often it comes."""
    headers = message["headers"]
    parts = [headers.get("id"), headers.get("eta"), message.get("body")]
    return sha256(dumps(parts).encode()).hexdigest()


def without_eta(message: dict[str, Any]) -> dict[str, Any]:
    """The same message, to be run as soon as it is taken."""
    return {**message, "headers": {**message["headers"], "eta": None}}
