"""The projected spend of a month: the known part, and the recent mean for each remaining day.

With n recent whole days of mean m and standard deviation s, and d remaining days:

    projection = spent so far + d m
    interval   = projection -/+ t s sqrt(d + d^2 / n)

t is the quantile of Student's distribution with n - 1 degrees of freedom. This is the prediction
interval for the mean of d further values of a normal sample (G. Hahn and W. Meeker, Statistical
Intervals, 1991, chapter 4), times d. It assumes that days are alike and independent. Quiet weekends
make it wider than necessary. It does not follow a trend, which `fleet spend` shows separately, nor
a jump to another level.

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
"""With fewer whole days there is no useful interval."""
RECENT_DAYS = 14
"""Two whole weeks: each day of the week counts equally, and the mean follows a moving level."""
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True)
class Projection:
    """A month's spend in nano-dollars, of which `spent` is known.

    `total` is None if there are too few days. `note` says so, or warns about the projection. `days`
    are the remaining days, each with its own interval in `daily`. A day that has not ended is one
    of them. `learned_from` counts whole days.
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

    All days of the month up to the last must be present. Days before the first spend are left out,
    because there was no fleet then. With `open_day` the last day has not ended, and its amount so
    far is a lower bound.
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
    """The known amount plus `count` remaining days, the first of them at least `so_far`.

    No day counts as less than 0, even after corrections.
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
