"""Whether a model keeps the limit that is set to its answers, for the money that a call may take.

Not every server does: some do not know the field that limits an answer, and write up to a default
of their own. So what the answers of a model show is kept for the whole fleet:

    it writes more than it was asked for     its limit holds no more: its calls are admitted at
                                             what it really writes, with a margin
    it stops at its limit                    its limit holds
    it keeps within its limit                so do those `PROVEN_AFTER` in a row

Where neither the maker's documents nor an answer has shown that a limit holds, it is in doubt:
where money is short, calls of the model take turns, so that the first can show what the others may
take.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

PROVEN_AFTER = 3
"""An answer that is short by itself says little of the limit: it takes some of them."""

MARGIN = 1.5
"""Answers differ: the next may be longer than the longest so far."""

UNKNOWN_WINDOW = 32_768
"""Tokens that a server may write by itself, where the model's window is not known."""


class LimitRecord(NamedTuple):
    """What the answers of a model have shown: how many in a row kept their limit, and the tokens of
    the largest that did not, 0 where none has since the limit was last shown to hold. `at` is when
    the last one did not, in ms since 1970 by Redis's clock."""

    within: int = 0
    largest: int = 0
    at: int = 0

    @property
    def holds(self) -> bool:
        """Whether answers have shown that the limit holds."""
        return self.within >= PROVEN_AFTER and not self.largest

    @property
    def is_broken(self) -> bool:
        """Whether an answer has shown that it does not."""
        return self.largest > 0

    @property
    def packed(self) -> str:
        """As it is kept."""
        return f"{self.within},{self.largest},{self.at}"

    @classmethod
    def parse(cls, packed: str) -> LimitRecord:
        """The inverse of `packed`."""
        return cls(*map(int, packed.split(",")))


NO_RECORD = LimitRecord()


class Shown(NamedTuple):
    """What one answer shows: tokens that it was `asked` to take at most, and has `written`.
    `at_limit` says that it stopped there."""

    asked: int
    written: int
    at_limit: bool

    @property
    def breaks(self) -> bool:
        """Whether it has broken its limit."""
        return self.written > self.asked

    @property
    def proves(self) -> bool:
        """Whether it alone shows that the limit holds."""
        return not self.breaks and (self.at_limit or self.written == self.asked)


def tells(record: LimitRecord | None, shown: Shown, trusted: bool) -> bool:
    """Whether what an answer shows has to be kept. `trusted` says that the maker documents it."""
    if shown.breaks:
        return True
    if record is None:
        return not trusted
    return not record.holds


def max_output(max_tokens: int, record: LimitRecord | None) -> int:
    """The most tokens that an answer is taken to have, which was asked to have no more than so
    many."""
    if record is None or not record.is_broken:
        return max_tokens
    return max(max_tokens, ceil(record.largest * MARGIN))


def unlimited_output(max_tokens: int, window: int | None) -> int:
    """The most tokens that an answer can have where nothing limits it but the model's window."""
    return max(max_tokens, window or UNKNOWN_WINDOW)
