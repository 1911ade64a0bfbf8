"""Checks the form of a message: its envelope, its headers and its body.

The transport checks the envelope, before Kombu makes a message of it. The consumer checks headers
and body, before Celery makes a task of them. Both check the form only. Celery decides whether the
task's name is known, and the agent whether its payload is valid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.utils.time import maybe_iso8601
from kombu.exceptions import ContentDisallowed
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from fleet.errors import MalformedMessage

MAX_NAME = 1000
"""Characters of a task's name and of ids, which become parts of keys and of log lines."""


def read_envelope(raw: bytes | str, max_bytes: int | None = None) -> dict[str, Any]:
    """The message in a queue's bytes. Raises `MalformedMessage`, whatever the bytes are, and if
    there are more than `max_bytes`."""
    if max_bytes is not None and len(raw) > max_bytes:
        raise MalformedMessage(f"it has {len(raw)} bytes, and {max_bytes} are allowed")
    try:
        found = loads(bytes_to_str(raw))
    except Exception as error:
        # Kombu's reader converts some values to dates and the like, which may raise any error.
        raise MalformedMessage(f"it is no JSON ({type(error).__name__})") from error
    return check_envelope(found)


def check_envelope(found: Any) -> dict[str, Any]:
    """Check a decoded message, and return it. Raises `MalformedMessage`."""
    if not isinstance(found, dict):
        raise MalformedMessage(f"it is {_kind(found)}, not a JSON object")
    properties = found.get("properties")
    if not isinstance(properties, dict):
        raise MalformedMessage(f"its properties are {_kind(properties)}, not an object")
    _check("delivery_info", properties.get("delivery_info"), _is_mapping)
    for name in ("correlation_id", "reply_to", "body_encoding"):
        _check(name, properties.get(name), _is_text)
    _check("priority", properties.get("priority"), _is_priority)
    _check("headers", found.get("headers"), _is_mapping)
    for name in ("body", "content-type", "content-encoding"):
        _check(name, found.get(name), _is_text)
    return found


def check_addressed(found: Mapping[str, Any]) -> None:
    """Check what Kombu needs too to note a message of a plain queue. Raises `MalformedMessage`."""
    info = found["properties"].get("delivery_info") or {}
    if not all(isinstance(info.get(name), str) for name in ("exchange", "routing_key")):
        raise MalformedMessage("its delivery_info names no exchange and routing key")
    tag = found["properties"].get("delivery_tag")
    if not isinstance(tag, str) or not _is_name(tag):
        raise MalformedMessage(f"its delivery_tag is {_kind(tag)}, not a short string")


def check_task(message: Any) -> None:
    """Check the headers and the body of a Kombu message that should become a task.

    Raises `MalformedMessage`. The body that is decoded here is kept by the message.
    """
    body = _decoded(message)
    headers = message.headers if "task" in message.headers else body
    if not isinstance(headers, Mapping) or "task" not in headers:
        raise MalformedMessage("it names no task")
    for name in ("task", "id"):
        if not _is_name(headers.get(name)):
            raise MalformedMessage(f"its {name} is {_kind(headers.get(name))}, not a short string")
    for name, allows in FIELDS.items():
        _check(name, headers.get(name), allows)
    _check_body(body)


def _decoded(message: Any) -> Any:
    if not message.body:
        raise MalformedMessage("it has no body")
    try:
        return message.payload
    except ContentDisallowed as error:
        raise MalformedMessage(
            f"its content type is {str(message.content_type)!r:.100}, which this worker does not "
            "accept"
        ) from error
    except Exception as error:
        raise MalformedMessage(f"its body cannot be decoded ({type(error).__name__})") from error


def _check_body(body: Any) -> None:
    """Check a body of either protocol: `[args, kwargs, embed]`, or an object with these parts."""
    if isinstance(body, Mapping):
        args, named, follows = body.get("args", ()), body.get("kwargs", {}), body
    elif isinstance(body, list | tuple) and len(body) == 3:
        args, named, follows = body
    else:
        raise MalformedMessage(f"its body is {_kind(body)}, not [args, kwargs, what follows]")
    if not isinstance(args, list | tuple):
        raise MalformedMessage(f"its arguments are {_kind(args)}, not a list")
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise MalformedMessage(f"its keyword arguments are {_kind(named)}, not an object")
    _check("what follows it", follows, _is_mapping)
    for name in ("callbacks", "errbacks", "chain"):
        _check(name, (follows or {}).get(name), _is_list_of_signatures)
    _check("chord", (follows or {}).get("chord"), _is_signature)


def _check(name: str, value: Any, allows: Callable[[Any], bool]) -> None:
    if value is not None and not allows(value):
        raise MalformedMessage(f"its {name} is {_kind(value)}, which is not allowed there")


def _kind(value: Any) -> str:
    """Describe a value without repeating it: it may be long, or a secret."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _is_text(value: Any) -> bool:
    """Text that can be written as UTF-8: half a surrogate pair cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_name(value: Any) -> bool:
    return _is_text(value) and 0 < len(value) <= MAX_NAME


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_priority(value: Any) -> bool:
    return _is_count(value) and 0 <= value <= 255


def _is_moment(value: Any) -> bool:
    try:
        moment = maybe_iso8601(value)
        moment.timestamp()
        return bool(moment.year > 1)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False


def _is_time_limit(value: Any) -> bool:
    pair: Sequence[Any] = value if isinstance(value, list | tuple) else ()
    return len(pair) == 2 and all(each is None or _is_seconds(each) for each in pair)


def _is_seconds(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value < 2**31


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list_of_texts(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value))


def _is_signature(value: Any) -> bool:
    """Whether a value may be a task to run next: a Celery signature as JSON."""
    return (
        isinstance(value, Mapping)
        and _is_name(value.get("task"))
        and isinstance(value.get("args", ()), list | tuple | None)
        and isinstance(value.get("kwargs", {}), Mapping | None)
        and isinstance(value.get("options", {}), Mapping | None)
    )


def _is_list_of_signatures(value: Any) -> bool:
    return _is_list(value) and all(map(_is_signature, value))


FIELDS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("shadow", "root_id", "parent_id", "group", "origin"), _is_text),
    **dict.fromkeys(("argsrepr", "kwargsrepr"), _is_text),
    "eta": _is_moment,
    "expires": _is_moment,
    "retries": _is_count,
    "group_index": _is_count,
    "replaced_task_nesting": _is_count,
    "timelimit": _is_time_limit,
    "ignore_result": _is_flag,
    "stamped_headers": _is_list_of_texts,
    "stamps": _is_mapping,
    "fleet": _is_mapping,
    # A header with the name of an attribute of Celery's request replaces that attribute.
    **dict.fromkeys(("headers", "properties"), _is_mapping),
    **dict.fromkeys(("children", "_children"), _is_list),
}
"""The check of each of Celery's and Fleet's own headers. Each may be missing."""
