"""Checkpoints: what the runs of a task have saved, for its next run to go on from.

They stand in one hash beside the record of their task, see `lua/parts/checkpoints.lua`, and come
with the lease. They go where the task ends, and stay with a dead letter, whose retry goes on from a
copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.redis.scripts import text

MAX_NAMES = 100
"""As in `lua/parts/checkpoints.lua`."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class Saved(NamedTuple):
    """What a run has saved under a name: when, in seconds since 1970 by Redis's clock; the fence of
    the run; and the value, as JSON."""

    name: str
    at: float
    fence: int
    value: str

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value.encode())


def checked_name(name: str) -> str:
    """The name, where something can be saved under it. Raises `ValueError`."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"nothing can be saved as {name!r}; use up to 64 letters, digits and . _ : -, and "
            "begin with a letter or a digit"
        )
    return name


def parse_saved(flat: Sequence[Any]) -> tuple[Saved, ...]:
    """What is saved, from the hash as a list of name, value, name, value; oldest first."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(sorted((_saved(text(n), text(v)) for n, v in pairs), key=lambda each: each.at))


def _saved(name: str, packed: str) -> Saved:
    at, fence, value = packed.split(" ", 2)
    return Saved(name, int(at) / 1000, int(fence), value)
