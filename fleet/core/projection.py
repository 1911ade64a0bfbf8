"""What a month will have cost: a trend and a day-of-week pattern, with an interval.

A day's spend is taken to be

    spend = level + slope x day + effect of the day of the week + noise

The level is free. The other two are shrunk towards none, by a ridge penalty: the effect of a
weekday that was seen n times counts n / (n + 2), and the slope S / (S + 14^2) where S is the sum
of the squared days around their middle (28 for one week, 227 for two, 2247 for thirty days). So
one expensive Tuesday makes no pattern, and three days make no trend for a month.

A ridge penalty is a normal prior, so what is known of the coefficients and the noise after the days
is known in closed form, a multivariate t distribution with one degree of freedom less than days
(A. Gelman and others, Bayesian Data Analysis, 3rd edition, 2013, sections 14.2 and 14.8). The days
to come are drawn from it: coefficients, noise, and the days of each draw, none under 0. The
projection is the median of the draws, the interval lies between their quantiles. So it is as wide
as few days deserve. It takes the noise of one day to say nothing of the next day's: where a bad day
is followed by another, it is too narrow, which the back-test shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.core.days import day_number, month_days, weekdays
from fleet.core.intervals import Interval, percentile

Floats = NDArray[np.float64]

LEAST_DAYS = 3
"""With fewer whole days there is no interval worth the name."""
PATTERN_DAYS = 14
"""With fewer whole days no weekday was seen twice."""
HISTORY_DAYS = 56
"""Older days say little of the trend now: eight weeks are learned from."""
CONFIDENCE = 0.9
DRAWS = 4000
WEEKDAY_PENALTY = 2.0
TREND_PENALTY = 14.0**2
PENALTY = np.diag([0.0, TREND_PENALTY, *[WEEKDAY_PENALTY] * 7])


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
    drawn = _draws(known_days, np.array(known, dtype=float), to_come, rng)
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


def _draws(
    days: Sequence[str], amounts: Floats, to_come: Sequence[str], rng: np.random.Generator
) -> Floats:
    """Draws of the days to come, shape (draws, days to come); see the head of this module."""
    origin = day_number(days[-1])
    seen, coming = _design(days, origin), _design(to_come, origin)
    precision = seen.T @ seen + PENALTY
    middle = np.linalg.solve(precision, seen.T @ amounts)
    missed = amounts - seen @ middle
    squares = float(missed @ missed + middle @ PENALTY @ middle)
    noise = np.sqrt(squares / rng.chisquare(len(days) - 1, size=(DRAWS, 1)))
    spread = np.linalg.inv(np.linalg.cholesky(precision))  # spread.T @ spread is the covariance
    coefficients = middle + noise * (rng.standard_normal((DRAWS, len(middle))) @ spread)
    drawn = coefficients @ coming.T + noise * rng.standard_normal((DRAWS, len(to_come)))
    nothing_less: Floats = np.maximum(drawn, 0.0)
    return nothing_less


def _design(days: Sequence[str], origin: int) -> Floats:
    """Level, day and weekday of each day, shape (days, 9)."""
    numbers = np.array([day_number(day) - origin for day in days], dtype=float)
    return np.column_stack([np.ones(len(days)), numbers, np.eye(7)[weekdays(days)]])


def _interval(drawn: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, estimate, high = (percentile(drawn, at) for at in (tail, 0.5, 1 - tail))
    return Interval(estimate, low, high, confidence)


def _note(learned_from: int) -> str:
    if learned_from < PATTERN_DAYS:
        return (
            f"learned from {learned_from} days only: trend and day-of-week pattern are mostly "
            "taken to be flat"
        )
    return ""
