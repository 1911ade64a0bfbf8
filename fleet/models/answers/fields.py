"""Reads the fields of an answer in any shape that servers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from fleet.text import ends_in_half, made_whole

Json = dict[str, Any]

NO_REASON = "unknown"
"""The finish reason of an answer whose server gives none."""


class Unreadable(ValueError):
    """An answer lacks a needed field, or has it in an unreadable shape."""


class Said(NamedTuple):
    """The content of a message: its text, and its thoughts if the server separates them."""

    text: str
    thoughts: str


class Pieces(Protocol):
    """Normalises the events of one stream, one by one."""

    def piece(self, event: Mapping[str, Any]) -> list[Json]:
        """The events that replace an event. Raises `Unreadable`."""
        ...

    def end(self) -> list[Json]:
        """The missing events when the server says that the stream has ended."""
        ...


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def first(value: object) -> Mapping[str, Any] | None:
    """The first object of a list."""
    return next((each for each in items(value) if isinstance(each, Mapping)), None)


def items(value: object) -> list[Any]:
    """A JSON list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def name(value: object) -> str | None:
    """A word that is not empty."""
    return made_whole(value) if isinstance(value, str) and value.strip() else None


def said(content: object) -> Said:
    """The text and thoughts in a string, or in a list of parts."""
    if content is None:
        return Said("", "")
    if isinstance(content, str):
        return Said(content, "")
    if not isinstance(content, list):
        raise Unreadable(f"the text is a {type(content).__name__}")
    parts = [_part(each) for each in content]
    return Said("".join(p.text for p in parts), "".join(p.thoughts for p in parts))


def _part(part: object) -> Said:
    if isinstance(part, str):
        return Said(part, "")
    found = mapping(part)
    if found.get("type") in ("thinking", "reasoning"):
        inner = said(found.get("thinking") or found.get("text"))
        return Said("", inner.text + inner.thoughts)
    text = found.get("text")
    if isinstance(text, Mapping):
        # The form of OpenAI's assistants.
        text = text.get("value")
    if text is not None and not isinstance(text, str):
        raise Unreadable(f"the text is a {type(text).__name__}")
    return Said(text if isinstance(text, str) else "", "")


def counts(told: object) -> Json:
    """The reported numbers of tokens, those of details included, and nothing else."""
    found: Json = {}
    for key, value in mapping(told).items():
        number = counts(value) if isinstance(value, Mapping) else _count(value)
        if number is not None and number != {}:
            found[str(key)] = number
    return found


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None
    return int(value) if 0 <= value < 2**53 and value == int(value) else None


class Characters:
    """The characters of a stream. A character may arrive in two halves."""

    def __init__(self) -> None:
        self._half = ""

    def more(self, text: str, *, last: bool = False) -> str:
        """The next characters, without a first half whose second half may still arrive."""
        text, self._half = self._half + text, ""
        if ends_in_half(text) and not last:
            text, self._half = text[:-1], text[-1]
        return made_whole(text)
