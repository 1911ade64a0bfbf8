"""Reads the messages in task records, as Fleet or Celery's own producer sent them."""

from __future__ import annotations

import base64
import json
from typing import Any

from fleet.errors import InvalidRequest

PARSE_ERRORS = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""Raised while parsing anything but such a message."""


def payload_of(message: str) -> Any:
    """The payload in a message: the first argument of the agent's task.

    Raises `InvalidRequest` if the message cannot be parsed.
    """
    try:
        found = json.loads(message)
        body = found["body"]
        if (found.get("properties") or {}).get("body_encoding") == "base64":
            body = base64.b64decode(body)
        args, named, _ = json.loads(body)
        return args[0] if args else named["payload"]
    except PARSE_ERRORS as error:
        raise unreadable() from error


def readdressed(message: str, task_id: str) -> str:
    """The message with another task's id. Its successors in a chain or group stay.

    It is due at once and never expires: the original times applied to the first task. Raises
    `InvalidRequest` if the message cannot be parsed.
    """
    try:
        found = json.loads(message)
        headers, properties = found["headers"], found["properties"]
        if headers.get("root_id") == headers["id"]:
            headers["root_id"] = task_id
        headers.update(id=task_id, retries=0, eta=None, expires=None)
        properties.update(correlation_id=task_id, delivery_tag=task_id)
        return json.dumps(found)
    except PARSE_ERRORS as error:
        raise unreadable() from error


def unreadable() -> InvalidRequest:
    """The error for a message that cannot be parsed."""
    return InvalidRequest(
        "the stored message cannot be read: it is no JSON of Celery's protocol 2; submit the "
        "request again"
    )
