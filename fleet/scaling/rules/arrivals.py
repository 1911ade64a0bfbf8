"""How many tasks arrived, counted in equal intervals since 1970."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.scaling.rules.values import Arrivals

MAX_GAP_SECONDS = 60.0
"""After a longer pause of the decisions nobody knows when in it the tasks arrived: they are not
counted."""


class Interval(NamedTuple):
    """Intervals of one length in seconds, and how many of them are kept. `letter` begins their
    fields in Redis: the letter and the number of the interval since 1970."""

    letter: str
    seconds: int
    kept: int

    def field(self, now: float) -> str:
        """The field that counts what arrives now."""
        return f"{self.letter}{int(now // self.seconds)}"

    def arrivals(self, counts: Mapping[str, int], now: float) -> Arrivals:
        """The complete intervals from the first one known, the newest last.

        An interval in which nobody counted repeats the one before: what cannot be known is no zero.
        """
        current = int(now // self.seconds)
        known = {
            number: count
            for number, count in self._numbers(counts)
            if current - self.kept <= number < current
        }
        found: list[int] = []
        for number in range(min(known, default=current), current):
            found.append(known.get(number, found[-1] if found else 0))
        return Arrivals(float(self.seconds), float(current * self.seconds), tuple(found))

    def outdated(self, counts: Mapping[str, int], now: float) -> list[str]:
        """The fields that are too old, or of a time that has not come."""
        current = int(now // self.seconds)
        return [
            f"{self.letter}{number}"
            for number, _ in self._numbers(counts)
            if not current - self.kept <= number <= current
        ]

    def _numbers(self, counts: Mapping[str, int]) -> Iterable[tuple[int, int]]:
        for field, count in counts.items():
            if field[:1] == self.letter and field[1:].isdigit():
                yield int(field[1:]), count


RECENT = Interval("r", 10, 60)
"""Ten minutes in intervals of ten seconds."""
LONG_TERM = Interval("l", 600, 2016)
"""Two weeks in intervals of ten minutes."""


def new_arrivals(counted: int, before: int, at: float | None, now: float) -> int | None:
    """How many tasks arrived since the last decision at `at`, or None if nobody knows."""
    if at is None or now - at > MAX_GAP_SECONDS or counted < 0:
        return None
    return max(0, counted - before)
