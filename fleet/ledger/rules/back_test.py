"""How well months would have been projected: each past month, as if only its first days were over.

Beside it stands what needs no model: the mean of the month's first days, times its days.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.ledger.rules.days import month_days
from fleet.ledger.rules.intervals import Interval
from fleet.ledger.rules.projection import project

AFTER_DAYS = (5, 10, 15, 20, 25)
"""The days of the month after whose end it is projected."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A month projected after so many of its days, and what it came to; nano-dollars."""

    month: str
    after_days: int
    projected: Interval
    run_rate: float
    actual: int

    @property
    def within(self) -> bool:
        """Whether the month came out inside the interval."""
        return self.projected.low <= self.actual <= self.projected.high


@dataclass(frozen=True, slots=True)
class Score:
    """All months projected after so many days.

    `error` and `run_rate_error` are mean absolute errors as shares of what the months came to;
    `coverage` is the share of the months inside the interval, which should be `confidence`.
    """

    after_days: int
    months: int
    error: float
    run_rate_error: float
    coverage: float
    confidence: float


def back_test(
    days: Sequence[str], amounts: Sequence[int], rng: np.random.Generator
) -> tuple[Hit, ...]:
    """Project each whole month among these consecutive days, with what was known then.

    A month that came to nothing is left out, since no error can be a share of it; so is one that
    begins before the first spend.
    """
    first = next((place for place, amount in enumerate(amounts) if amount), len(amounts))
    with_fleet = set(days[first:])
    months = dict.fromkeys(day[:6] for day in days[first:])
    return tuple(
        hit
        for month in months
        if with_fleet.issuperset(month_days(month))
        for hit in _month_hits(month, days, amounts, rng)
    )


def _month_hits(
    month: str, days: Sequence[str], amounts: Sequence[int], rng: np.random.Generator
) -> Iterator[Hit]:
    start = days.index(f"{month}01")
    length = len(month_days(month))
    actual = sum(amounts[start : start + length])
    if actual <= 0:
        return
    for after in AFTER_DAYS:
        known = start + after
        projected = project(days[:known], amounts[:known], rng).total
        if projected is not None:
            run_rate = sum(amounts[start:known]) / after * length
            yield Hit(month, after, projected, run_rate, actual)


def scores(hits: Sequence[Hit]) -> tuple[Score, ...]:
    """The hits summed up, one score for each number of days; empty without hits."""
    grouped = {after: [hit for hit in hits if hit.after_days == after] for after in AFTER_DAYS}
    return tuple(_score(after, group) for after, group in grouped.items() if group)


def _score(after: int, hits: Sequence[Hit]) -> Score:
    actual = np.array([hit.actual for hit in hits], dtype=float)
    projected = np.array([hit.projected.estimate for hit in hits])
    run_rate = np.array([hit.run_rate for hit in hits])
    return Score(
        after_days=after,
        months=len(hits),
        error=float(np.mean(np.abs(projected - actual) / actual)),
        run_rate_error=float(np.mean(np.abs(run_rate - actual) / actual)),
        coverage=sum(hit.within for hit in hits) / len(hits),
        confidence=hits[0].projected.confidence,
    )
