"""What a month will have cost: what is known of it, and for each day to come the recent mean.

With n recent whole days of mean m and standard deviation s, and d days to come:

    projection = spent so far + d m
    interval   = projection -/+ t s sqrt(d + d^2 / n)

t is the quantile of Student's distribution with n - 1 degrees of freedom. This is the prediction
interval for the mean of d further values of a normal sample (G. Hahn and W. Meeker, Statistical
Intervals, 1991, chapter 4), times d. It assumes that days are alike and independent. Quiet
weekends make it wider than need be. It follows no trend, which `fleet spend` shows beside it, and
no jump to another level.

Simulated months whose days have 25 % of noise were inside the interval of 90 % as often: 93 % of
level ones, 92 % of those that rise by 1 % of the first level a day, all with quiet weekends, and
71 % where the level wanders by 5 % a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean, stdev

from fleet.ledger.rules.days import month_days
from fleet.ledger.rules.intervals import Interval

LEAST_DAYS = 3
"""With fewer whole days there is no interval worth the name."""
RECENT_DAYS = 14
"""Two whole weeks: each day of the week counts alike, and a level that moves is followed."""
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


def project(days: Sequence[str], amounts: Sequence[int], open_day: bool = False) -> Projection:
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
    recent = _since_the_first_spend(amounts[:whole])[-RECENT_DAYS:]
    if not to_come:
        total = Interval(float(spent), float(spent), float(spent), CONFIDENCE)
        return Projection(month, spent, total, (), (), len(recent), "the month has ended")
    if len(recent) < LEAST_DAYS:
        note = f"a projection needs {LEAST_DAYS} whole days with spend; there are {len(recent)}"
        return Projection(month, spent, None, (), (), len(recent), note)
    first, others = _coming(recent, 1, so_far), _coming(recent, 1, 0)
    total = _coming(recent, len(to_come), so_far, spent - so_far)
    note = f"learned from {len(recent)} days only" if len(recent) < RECENT_DAYS else ""
    daily = (first, *[others] * (len(to_come) - 1))
    return Projection(month, spent, total, to_come, daily, len(recent), note)


def _since_the_first_spend(amounts: Sequence[int]) -> Sequence[int]:
    first = next((place for place, amount in enumerate(amounts) if amount), len(amounts))
    return amounts[first:]


def _coming(recent: Sequence[int], count: int, so_far: int, known: int = 0) -> Interval:
    """What is known and `count` days to come cost, the first of them at least what it has.

    No day is taken to cost less than nothing, whatever was corrected.
    """
    mean = max(fmean(recent), 0.0)
    estimate = known + max(mean, so_far) + (count - 1) * mean
    deviation = stdev(recent) * sqrt(count + count**2 / len(recent))
    margin = _student((1 + CONFIDENCE) / 2, len(recent) - 1) * deviation
    return Interval(estimate, max(estimate - margin, known + so_far), estimate + margin, CONFIDENCE)


def _student(fraction: float, freedom: int) -> float:
    """The quantile of Student's distribution, to 2 % from two degrees of freedom on (M.
    Abramowitz and I. Stegun, Handbook of Mathematical Functions, 1964, 26.7.5)."""
    z = NormalDist().inv_cdf(fraction)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
