"""A value that somebody gave, in the sentence that refuses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

MAX_SHOWN = 100
MAX_DIGITS = 30


def brief(value: object) -> str:
    """A value of JSON: of a long text the beginning. Of any other value the name of its type."""
    if isinstance(value, str):
        return repr(value) if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]!r}..."
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**MAX_DIGITS else "a number of many digits"
    return f"a {type(value).__name__}"


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number: True is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unknown(kind: str, name: object, allowed: Iterable[str]) -> str:
    """A sentence for a name that is not known, with those that are."""
    return f"no {kind} is called {brief(name)}; use one of: {', '.join(sorted(allowed))}"
