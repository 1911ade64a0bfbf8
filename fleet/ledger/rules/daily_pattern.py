"""What days to come may cost: draws from what is known of trend, day-of-week pattern and noise.

A day's spend is taken to be

    spend = level + slope x day + effect of the day of the week + noise

Days count less the older they are, half after two weeks: a day whose weight is w is taken to have
1/w of the noise's variance, as in discounted regression (M. West and J. Harrison, Bayesian
Forecasting and Dynamic Models, 2nd edition, 1997, section 6.3). So a level that moves is followed.

The level is free. Slope and effects are shrunk towards none by a ridge penalty, which is a normal
prior: the slope moves the level by the noise of one day in so many days (`TREND_DAYS`), and an
effect weighs against so many days without one (`WEEKDAY_DAYS`). Under each of these pairs all is
known in closed form: coefficients and noise have a multivariate t distribution, with the weights
in all less one as degrees of freedom, and the days have a likelihood (A. Gelman and others,
Bayesian Data Analysis, 3rd edition, 2013, sections 14.2 and 14.8). Draws are taken from each pair
as often as its likelihood deserves. So few or noisy days are taken to have no pattern, and a
plain pattern is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet.ledger.rules.days import day_number, weekdays

Floats = NDArray[np.float64]

DRAWS = 2000
HALF_LIFE_DAYS = 14.0
TREND_DAYS = (3.0, 15.0, 60.0, 240.0)
WEEKDAY_DAYS = (0.05, 0.5, 3.0, 20.0)
DAY = 1
"""The column of the design that numbers the days; the last known one is 0."""
LEAST_NOISE = 1e-9
"""Of the spend, squared: days without any noise do not make all else infinitely unlikely."""


class Fit(NamedTuple):
    """What is known under one pair of penalties: coefficients, their precision in units of the
    noise, the squared noise in all, and the logarithm of the days' likelihood."""

    middle: Floats
    precision: Floats
    squares: float
    likelihood: float


def draw_days(
    days: Sequence[str], amounts: Floats, to_come: Sequence[str], rng: np.random.Generator
) -> Floats:
    """Draws of what the days to come cost, shape (draws, days to come), none under 0.

    `days` are at least three known ones, with their amounts in any unit.
    """
    origin = day_number(days[-1])
    seen, coming = _design(days, origin), _design(to_come, origin)
    weights = 0.5 ** (-seen[:, DAY] / HALF_LIFE_DAYS)
    fits = [
        _fit(seen, amounts, weights, np.array([0.0, trend**2, *[weekday] * 7]))
        for trend in TREND_DAYS
        for weekday in WEEKDAY_DAYS
    ]
    likelihoods = np.array([fit.likelihood for fit in fits])
    shares = np.exp(likelihoods - likelihoods.max())
    counts = rng.multinomial(DRAWS, shares / shares.sum())
    freedom = float(weights.sum()) - 1.0
    drawn = [
        _drawn(fit, freedom, coming, int(count), rng)
        for fit, count in zip(fits, counts, strict=True)
        if count
    ]
    nothing_less: Floats = np.maximum(np.concatenate(drawn), 0.0)
    return nothing_less


def _design(days: Sequence[str], origin: int) -> Floats:
    """Level, day and weekday of each day, shape (days, 9)."""
    numbers = np.array([day_number(day) - origin for day in days], dtype=float)
    return np.column_stack([np.ones(len(days)), numbers, np.eye(7)[weekdays(days)]])


def _fit(seen: Floats, amounts: Floats, weights: Floats, penalty: Floats) -> Fit:
    precision = (seen.T * weights) @ seen + np.diag(penalty)
    solved = np.linalg.solve(precision, seen.T @ (weights * amounts))
    middle = np.asarray(solved, dtype=np.float64)
    missed = amounts - seen @ middle
    squares = float(weights @ missed**2 + penalty @ middle**2)
    least = LEAST_NOISE * float(weights @ amounts**2)
    _, volume = np.linalg.slogdet(precision)
    prior = float(np.log(penalty[DAY:]).sum())
    explained = (weights.sum() - 1.0) * np.log(max(squares, least))
    return Fit(middle, precision, squares, float(prior - volume - explained) / 2)


def _drawn(
    fit: Fit, freedom: float, coming: Floats, count: int, rng: np.random.Generator
) -> Floats:
    noise = np.sqrt(fit.squares / rng.chisquare(freedom, size=(count, 1)))
    spread = np.linalg.inv(np.linalg.cholesky(fit.precision))  # spread.T @ spread: the covariance
    coefficients = fit.middle + noise * (rng.standard_normal((count, len(fit.middle))) @ spread)
    drawn: Floats = coefficients @ coming.T + noise * rng.standard_normal((count, len(coming)))
    return drawn
