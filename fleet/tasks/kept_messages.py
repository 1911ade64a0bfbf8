"""Messages that task records keep, as they were sent: by Fleet, or by Celery's own producer."""

from __future__ import annotations

import base64
import json
from typing import Any

from fleet.errors import InvalidRequest

NO_MESSAGE = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""What reading something else raises."""


def payload_of(message: str) -> Any:
    """The payload in a message: the first argument of the agent's task.

    Raises `InvalidRequest` for a message that cannot be read here.
    """
    try:
        found = json.loads(message)
        body = found["body"]
        if (found.get("properties") or {}).get("body_encoding") == "base64":
            body = base64.b64decode(body)
        args, named, _ = json.loads(body)
        return args[0] if args else named["payload"]
    except NO_MESSAGE as error:
        raise _unreadable() from error


def readdressed(message: str, task_id: str) -> str:
    """The message as one of another task: what follows it in a chain or a group stays with it.

    It is due at once and does not expire: its times were those of the first one.
    """
    try:
        found = json.loads(message)
        headers, properties = found["headers"], found["properties"]
        if headers.get("root_id") == headers["id"]:
            headers["root_id"] = task_id
        headers.update(id=task_id, retries=0, eta=None, expires=None)
        properties.update(correlation_id=task_id, delivery_tag=task_id)
        return json.dumps(found)
    except NO_MESSAGE as error:
        raise _unreadable() from error


def _unreadable() -> InvalidRequest:
    return InvalidRequest(
        "the message that is kept cannot be read: it is no JSON of Celery's protocol 2; submit "
        "the request anew"
    )
