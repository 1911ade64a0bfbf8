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
from typing import Any

from celery.app.task import Context
from kombu.utils.json import dumps

from fleet.errors import MalformedMessage
from fleet.settings import FleetConfig
from fleet.tasks.checks import Checked

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
        "properties": properties_of(request.id, request.reply_to, priority),
    }
    return str(dumps(message))


def properties_of(task_id: str, reply_to: str | None, priority: int = 0) -> dict[str, Any]:
    """The properties of a task's message, for whichever queue it is put into."""
    return {
        "correlation_id": task_id,
        "reply_to": reply_to or "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": ""},
        "priority": priority,
        "delivery_tag": task_id,
    }
