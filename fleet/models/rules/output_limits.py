"""Whether a model keeps its output limit, which bounds the cost of a call.

Not every server does: some ignore the field that limits an answer, and write up to a default of
their own. So the fleet records what the answers of a model show:

    an answer exceeds the limit              the limit does not hold: calls reserve money for what
                                             the model really writes, with a margin
    an answer stops at the limit             the limit holds
    an answer is shorter than the limit      after `PROVEN_AFTER` in a row the limit holds

A limit is in doubt if neither the maker's documents nor an answer shows that it holds. Then, if
money is short, calls of the model take turns, so that the first shows what the others may cost.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

PROVEN_AFTER = 3
"""One short answer says little about the limit, so several in a row are needed."""

MARGIN = 1.5
"""The next answer may be longer than the longest so far."""

UNKNOWN_WINDOW = 32_768
"""The assumed most tokens of an answer without a limit, if the model's window is unknown."""


class LimitRecord(NamedTuple):
    """What the answers of a model have shown. `within` counts the answers in a row within the
    limit. `largest` is the length in tokens of the longest answer over the limit, 0 if there is
    none since the limit was last shown to hold. `at` is the time of the last one over the limit, in
    ms since 1970 by Redis's clock."""

    within: int = 0
    largest: int = 0
    at: int = 0

    @property
    def holds(self) -> bool:
        """Whether answers have shown that the limit holds."""
        return self.within >= PROVEN_AFTER and not self.largest

    @property
    def is_broken(self) -> bool:
        """Whether an answer has shown that the limit does not hold."""
        return self.largest > 0

    @property
    def packed(self) -> str:
        """The stored form."""
        return f"{self.within},{self.largest},{self.at}"

    @classmethod
    def parse(cls, packed: str) -> LimitRecord:
        """The inverse of `packed`."""
        return cls(*map(int, packed.split(",")))


NO_RECORD = LimitRecord()


class Shown(NamedTuple):
    """What one answer shows: the limit that it was `asked` to keep, and the tokens `written`.
    `at_limit` says that it stopped at the limit."""

    asked: int
    written: int
    at_limit: bool

    @property
    def breaks(self) -> bool:
        """Whether the answer exceeds the limit."""
        return self.written > self.asked

    @property
    def proves(self) -> bool:
        """Whether the answer alone shows that the limit holds."""
        return not self.breaks and (self.at_limit or self.written == self.asked)


def tells(record: LimitRecord | None, shown: Shown, trusted: bool) -> bool:
    """Whether to record what an answer shows. With `trusted` the maker documents the limit."""
    if shown.breaks:
        return True
    if record is None:
        return not trusted
    return not record.holds


def max_output(max_tokens: int, record: LimitRecord | None) -> int:
    """The upper bound of an answer's tokens with an output limit of `max_tokens`."""
    if record is None or not record.is_broken:
        return max_tokens
    return max(max_tokens, ceil(record.largest * MARGIN))


def unlimited_output(max_tokens: int, window: int | None) -> int:
    """The upper bound of an answer's tokens if only the model's window limits it."""
    return max(max_tokens, window or UNKNOWN_WINDOW)
