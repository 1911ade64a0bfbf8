"""How many tasks arrived, counted in equal intervals since 1970."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.scaling.rules.values import Arrivals

MAX_GAP_SECONDS = 600.0
"""After a longer pause of the decisions nobody knows when in it the tasks arrived: they are not
counted."""


class Interval(NamedTuple):
    """Intervals of one length in seconds, and how many of them are kept. `letter` begins their
    fields in Redis: the letter and the number of the interval since 1970."""

    letter: str
    seconds: int
    kept: int

    def spread(self, tasks: int, since: float, until: float) -> dict[str, int]:
        """The fields that count the tasks that arrived in a time, and how many go to each.

        They arrived evenly, as far as one knows. Each interval gets its share of the time, rounded
        so that the shares add up.
        """
        first, last = int(since // self.seconds), int(until // self.seconds)
        length, given, found = max(until - since, 1e-9), 0, {}
        for number in range(first, last + 1):
            ends = min((number + 1) * self.seconds, until)
            so_far = tasks if number == last else round(tasks * (ends - since) / length)
            found[f"{self.letter}{number}"] = so_far - given
            given = so_far
        return found

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

    def kept_of(self, counts: Mapping[str, int], now: float) -> dict[str, int]:
        """The fields of these intervals that are not outdated."""
        dropped = set(self.outdated(counts, now))
        return {
            field: count
            for field, count in counts.items()
            if field[:1] == self.letter and field not in dropped
        }

    def _numbers(self, counts: Mapping[str, int]) -> Iterable[tuple[int, int]]:
        for field, count in counts.items():
            if field[:1] == self.letter and field[1:].isdigit():
                yield int(field[1:]), count


RECENT = Interval("r", 5, 60)
"""Five minutes in intervals of five seconds: a burst is noticed after one of them."""
LONG_TERM = Interval("l", 300, 2016)
"""A week in intervals of five minutes: the forecast places a burst of each day by them."""


def new_arrivals(counted: int, before: int, at: float | None, now: float) -> dict[str, int]:
    """The fields that count the tasks since the last decision at `at`, and how many to add to each.
    Empty if nobody knows."""
    if at is None or not 0 <= now - at <= MAX_GAP_SECONDS or counted < 0:
        return {}
    tasks = max(0, counted - before)
    return RECENT.spread(tasks, at, now) | LONG_TERM.spread(tasks, at, now)


def added(counts: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Both together, field by field. A count of 0 stays: nothing arrived is known, too."""
    return {field: counts.get(field, 0) + new.get(field, 0) for field in {**counts, **new}}
