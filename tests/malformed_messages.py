"""Messages that no worker can take, by what is wrong with them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

Change = Callable[[dict[str, Any]], Any]


def good_message(name: str, args: list[Any], queue: str, task_id: str = "") -> dict[str, Any]:
    """A message as Celery writes it."""
    task_id = task_id or str(uuid4())
    follows = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([args, {}, follows])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": name,
            "id": task_id,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "argsrepr": "",
            "kwargsrepr": "",
            "origin": "1@here",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }


def _top(name: str, value: Any) -> Change:
    return lambda message: {**message, name: value}


def _without(name: str) -> Change:
    return lambda message: {key: value for key, value in message.items() if key != name}


def _header(name: str, value: Any) -> Change:
    return lambda message: {**message, "headers": {**message["headers"], name: value}}


def _no_header(name: str) -> Change:
    def change(message: dict[str, Any]) -> Any:
        return {**message, "headers": _without(name)(message["headers"])}

    return change


def _property(name: str, value: Any) -> Change:
    return lambda message: {**message, "properties": {**message["properties"], name: value}}


def _body(value: Any) -> Change:
    def change(message: dict[str, Any]) -> Any:
        text = value if isinstance(value, str) else json.dumps(value)
        return {**message, "body": base64.b64encode(text.encode()).decode()}

    return change


FOLLOWS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

ENVELOPES: dict[str, Change | bytes] = {
    "nothing at all": b" ",
    "no JSON": b"{not json",
    "no UTF-8": b"\xff\xfe\x00binary",
    "no UTF-8 in a string": b'{"headers": {"id": "\xff\xfe"}}',
    "a list": b"[1, 2, 3]",
    "a number": b"17",
    "null": b"null",
    "a string": b'"hello"',
    "deeper than anybody reads": b"[" * 100_000 + b"]" * 100_000,
    "a value of Kombu's that is none": b'{"__type__": "datetime", "__value__": "no date"}',
    "no properties": _without("properties"),
    "properties that are a list": _top("properties", []),
    "properties that are null": _top("properties", None),
    "a delivery_info that is a list": _property("delivery_info", ["", ""]),
    "headers that are a list": _top("headers", ["task"]),
    "headers that are a string": _top("headers", "task"),
    "a body that is a list": _top("body", [[], {}, {}]),
    "a body that is a number": _top("body", 5),
    "a body that is no base64": _top("body", "no base64 at all!"),
    "an unknown body_encoding": _property("body_encoding", "rot13"),
    "a body_encoding that is a list": _property("body_encoding", ["base64"]),
    "a content type that is a number": _top("content-type", 5),
    "a content encoding that is an object": _top("content-encoding", {}),
    "a priority that is an object": _property("priority", {"of": 1}),
    "a priority that is a string": _property("priority", "high"),
    "a reply_to that is a list": _property("reply_to", ["me"]),
    "a correlation id that is a number": _property("correlation_id", 7),
    "large, and no object": b'"' + b"x" * 2_000_000 + b'"',
}
"""What Kombu cannot make a message of."""

TASKS: dict[str, Change] = {
    "no headers": _without("headers"),
    "headers that are empty": _top("headers", {}),
    "no body": _without("body"),
    "a body that is null": _top("body", None),
    "a body that is empty": _top("body", ""),
    "no name": _no_header("task"),
    "a name that is null": _header("task", None),
    "a name that is a list": _header("task", ["agents.napper"]),
    "a name that is an object": _header("task", {}),
    "a long name": _header("task", "x" * 100_000),
    "no id": _no_header("id"),
    "an id that is null": _header("id", None),
    "an id that is a number": _header("id", 5),
    "an id that is a list": _header("id", [1]),
    "an id that is half a surrogate pair": _header("id", "\ud800"),
    "a compression that nobody knows": _header("compression", "x-unknown"),
    "a compression of something else": _header("compression", "application/x-gzip"),
    "an unknown content type": _top("content-type", "application/x-unknown"),
    "a content type that is not accepted": _top("content-type", "application/x-python-serialize"),
    "an eta that is no time": _header("eta", "tomorrow"),
    "an eta that is a number": _header("eta", 5),
    "an eta that is a list": _header("eta", [2026]),
    "expires that is no time": _header("expires", "never"),
    "expires that is an object": _header("expires", {}),
    "a time limit that is a number": _header("timelimit", 5),
    "a time limit of three": _header("timelimit", [1, 2, 3]),
    "a time limit of strings": _header("timelimit", ["1", "2"]),
    "retries that are a string": _header("retries", "many"),
    "retries that are a list": _header("retries", [1]),
    "a root id that is an object": _header("root_id", {}),
    "a group that is a list": _header("group", ["g"]),
    "stamps that are a list": _header("stamps", [1]),
    "stamped headers that are a number": _header("stamped_headers", 5),
    "a shadow that is a list": _header("shadow", ["x"]),
    "what is asked of Fleet as a list": _header("fleet", [1]),
    "a body that decodes to no JSON": _body("{not json"),
    "a body that is too deep": _body("[" * 100_000 + "]" * 100_000),
    "a body of a number": _body(17),
    "a body of null": _body(None),
    "a body of two parts": _body([[], {}]),
    "args that are an object": _body([{"a": 1}, {}, FOLLOWS]),
    "args that are a string": _body(["abc", {}, FOLLOWS]),
    "args that are null": _body([None, {}, FOLLOWS]),
    "kwargs that are a list": _body([[], [1], FOLLOWS]),
    "kwargs that are a number": _body([[], 5, FOLLOWS]),
    "what follows that is a list": _body([[], {}, [1]]),
    "callbacks that are an object": _body([[], {}, {**FOLLOWS, "callbacks": {"task": "x"}}]),
    "callbacks that are numbers": _body([[], {}, {**FOLLOWS, "callbacks": [5]}]),
    "a chain of strings": _body([[], {}, {**FOLLOWS, "chain": ["shop.add"]}]),
    "errbacks without a name": _body([[], {}, {**FOLLOWS, "errbacks": [{"task": []}]}]),
    "options of a callback that are text": _body(
        [[], {}, {**FOLLOWS, "callbacks": [{"task": "x", "options": "y"}]}]
    ),
    "a chord that is empty": _body([[], {}, {**FOLLOWS, "chord": {}}]),
    "a chord that is a list": _body([[], {}, {**FOLLOWS, "chord": ["x"]}]),
}
"""What Celery cannot make a task of."""

PLAIN: dict[str, Change] = {
    "no delivery tag": lambda message: _property_less(message, "delivery_tag"),
    "a delivery tag that is a list": _property("delivery_tag", ["t"]),
    "a delivery tag that is null": _property("delivery_tag", None),
    "no delivery_info": lambda message: _property_less(message, "delivery_info"),
    "a delivery_info without a routing key": _property("delivery_info", {"exchange": ""}),
}
"""What Kombu cannot note, where it does so itself: in a plain queue."""


def _property_less(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {**message, "properties": _without(name)(message["properties"])}


def written(change: Change | bytes, message: dict[str, Any]) -> bytes:
    """A malformed message as bytes, from a good one."""
    return change if isinstance(change, bytes) else json.dumps(change(message)).encode()
