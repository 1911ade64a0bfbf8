"""The text of a task's payload from which its difficulty is estimated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.models.rules.difficulty.text_features import READ_BYTES


def text_of(payload: str | Mapping[str, Any]) -> str:
    """All strings among a payload's values, in order, a line each, cut to what a sketch reads.

    `payload` is a mapping, or the JSON of one. Keys and numbers do not count. Raises
    `ValueError` for text that is no JSON.
    """
    value = json.loads(payload) if isinstance(payload, str) else payload
    parts, room = [], READ_BYTES
    for part in _strings(value):
        parts.append(part[:room])
        room -= len(parts[-1]) + 1
        if room <= 0:
            break
    return "\n".join(parts)


def _strings(value: Any) -> Iterator[str]:
    """The strings in a value of JSON, however deep, without recursion."""
    open_values = [value]
    while open_values:
        current = open_values.pop()
        if isinstance(current, str):
            yield current
        elif isinstance(current, Mapping):
            open_values.extend(reversed(list(current.values())))
        elif isinstance(current, list | tuple):
            open_values.extend(reversed(current))
