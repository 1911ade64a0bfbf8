"""A payload from the command line: JSON given, in a file or piped in, and single keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fleet.errors import InvalidRequest


def read_payload(argument: str | None, option: str | None, sets: list[str]) -> dict[str, Any]:
    """The payload. Keys of `--set` replace those of the JSON. Raises `InvalidRequest`."""
    if argument is not None and option is not None:
        raise InvalidRequest("the payload is given twice; leave out --payload or the argument")
    payload = _object(argument if argument is not None else option)
    for pair in sets:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"--set {pair!r}: write KEY=VALUE, such as --set tests='...'")
        payload[key] = _value(text)
    return payload


def _object(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        found = json.loads(_text(source))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f'the payload is no JSON: {error}; write an object such as \'{{"instruction": "..."}}\''
        ) from error
    if not isinstance(found, dict):
        raise InvalidRequest("the payload must be a JSON object, in braces")
    return found


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    if not source.startswith("@"):
        return source
    try:
        return Path(source[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"the payload's file {source[1:]}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(
            f"the payload's file {source[1:]!r}: is no UTF-8 text, or no file ({error})"
        ) from error


def _value(text: str) -> Any:
    """JSON where it is JSON, so that numbers and lists can be given; else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise InvalidRequest("--set: a value is nested too deeply; send it flatter") from None
