"""What a month will have cost: what is known of it, and draws of the days to come.

The draws (`fleet.ledger.rules.daily_pattern`) follow trend and day-of-week pattern. The projection
is the median of the draws, the interval lies between their quantiles, so it is as wide as few days
deserve. A spend that jumps to another level in the middle of a month nobody can foresee: there the
interval is too narrow, and the back-test shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet.ledger.rules.daily_pattern import Floats, draw_days
from fleet.ledger.rules.days import month_days
from fleet.ledger.rules.intervals import Interval, percentile

LEAST_DAYS = 3
"""With fewer whole days there is no interval worth the name."""
PATTERN_DAYS = 14
"""With fewer whole days no weekday was seen twice."""
HISTORY_DAYS = 56
"""Older days say little of the trend now: eight weeks are learned from."""
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Projection:
    """A month's spend in nano-dollars, of which `spent` is known.

    `total` is None where there are too few days to say; `note` says so, or what is to be
    kept in mind. `days` are those to come, each with its own interval in `daily`; a day that
    has not ended is one of them. `learned_from` counts whole days.
    """

    month: str
    spent: int
    total: Interval | None
    days: tuple[str, ...]
    daily: tuple[Interval, ...]
    learned_from: int
    note: str


def project(
    days: Sequence[str],
    amounts: Sequence[int],
    rng: np.random.Generator,
    open_day: bool = False,
    confidence: float = CONFIDENCE,
) -> Projection:
    """Project the month of the last of these consecutive days, at least one, with their amounts.

    All of the month's days up to the last have to be there. Days before the first spend are left
    out, for then there was no fleet. With `open_day` the last day has not ended: it will cost at
    least what it has.
    """
    month = days[-1][:6]
    spent = sum(amount for day, amount in zip(days, amounts, strict=True) if day[:6] == month)
    so_far = amounts[-1] if open_day else 0
    whole = len(days) - open_day
    to_come = tuple(day for day in month_days(month) if day > days[-1] or day in days[whole:])
    known_days, known = _since_the_first_spend(days[:whole], amounts[:whole])
    if not to_come:
        total = Interval(float(spent), float(spent), float(spent), confidence)
        return Projection(month, spent, total, (), (), len(known), "the month has ended")
    if len(known) < LEAST_DAYS:
        note = f"a projection needs {LEAST_DAYS} whole days with spend; there are {len(known)}"
        return Projection(month, spent, None, (), (), len(known), note)
    drawn = draw_days(known_days, np.array(known, dtype=float), to_come, rng)
    drawn[:, 0] = np.maximum(drawn[:, 0], so_far)
    return Projection(
        month=month,
        spent=spent,
        total=_interval(spent - so_far + drawn.sum(axis=1), confidence),
        days=to_come,
        daily=tuple(_interval(column, confidence) for column in drawn.T),
        learned_from=len(known),
        note=_note(len(known)),
    )


def _since_the_first_spend(
    days: Sequence[str], amounts: Sequence[int]
) -> tuple[Sequence[str], Sequence[int]]:
    """The days from the first with an amount on, at most as many as are learned from."""
    first = next((place for place, amount in enumerate(amounts) if amount), len(amounts))
    return days[first:][-HISTORY_DAYS:], amounts[first:][-HISTORY_DAYS:]


def _interval(drawn: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, estimate, high = (percentile(drawn, at) for at in (tail, 0.5, 1 - tail))
    return Interval(estimate, low, high, confidence)


def _note(learned_from: int) -> str:
    if learned_from < PATTERN_DAYS:
        return (
            f"learned from {learned_from} days only, too few to know a trend or the days of the "
            "week by"
        )
    return ""
