"""Checkpoints: values that the runs of a task save, so that its next run resumes from them.

One hash beside the task's record holds them, see `lua/parts/checkpoints.lua`. The lease carries
them to the run. They are deleted when the task ends, except for a dead letter: its retry gets a
copy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.redis.scripts import text

MAX_NAMES = 100
"""Checkpoints of one task; `lua/parts/checkpoints.lua` has the same number."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class Checkpoint(NamedTuple):
    """A saved value: its name; when it was saved, in seconds since 1970 by Redis's clock; the fence
    of the run that saved it; and the value as JSON."""

    name: str
    at: float
    fence: int
    value: str

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.value.encode())


def checked_name(name: str) -> str:
    """The same name, if it is valid for a checkpoint. Raises `ValueError`."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for a checkpoint; use up to 64 letters, digits and . _ : -, and "
            "begin with a letter or a digit"
        )
    return name


def parse_checkpoints(flat: Sequence[Any]) -> tuple[Checkpoint, ...]:
    """Checkpoints from the hash, given as a list of name, value, name, value; oldest first."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(
        sorted((_checkpoint(text(n), text(v)) for n, v in pairs), key=lambda each: each.at)
    )


def _checkpoint(name: str, packed: str) -> Checkpoint:
    at, fence, value = packed.split(" ", 2)
    return Checkpoint(name, int(at) / 1000, int(fence), value)
