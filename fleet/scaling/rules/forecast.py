"""Square-root staffing for the rate that the time of day lets expect, where it does.

A worker that is started now takes tasks only after its start-up time, so what counts is the rate
then. Two forecasts of it are compared on the days before, at this time of day: the rate stays as it
is (what `square_root` assumes), and the rate goes as on other days, times the trend: how much
busier the last hour was than on those days. Where the second was not clearly better, the answer is
that of `square_root`. Where it was, the two are combined by the inverse of their error variances
(J. M. Bates and C. W. J. Granger, The combination of forecasts, 1969).

Where a worker starts sooner than a task ends, the answer is that of `square_root` too: a slot for
each waiting task is there as soon as a forecast could help.
"""

from __future__ import annotations

from math import ceil, exp, sqrt
from typing import NamedTuple

from fleet.scaling.rules.demand import arrival_rate
from fleet.scaling.rules.square_root import MARGIN, staffed
from fleet.scaling.rules.values import Arrivals, PoolLoad, Wanted

DAY_SECONDS = 86_400.0
FEWEST_DAYS = 3
LEVEL_SECONDS = 3600.0
"""How far back today is compared with the days before."""
CLEARLY = 1.645
"""The 95 % point of the normal distribution."""


class Forecast(NamedTuple):
    """Tasks per second that are expected, the standard error, and from how many days."""

    per_second: float
    error: float
    days: int


def forecast(load: PoolLoad) -> Wanted:
    """What `square_root` wants, or more where the time of day lets a higher rate expect."""
    rate = arrival_rate(load.recent)
    base = staffed(load, rate)
    mean = load.service.mean
    if not load.service.tasks or load.start_seconds <= mean:
        reason = (
            f"a worker starts in {load.start_seconds:.3g} s, a task takes {mean:.3g} s: "
            "no forecast is needed"
        )
        return Wanted(base.workers, (reason, *base.reasons))
    ahead = expected_rate(load.long_term, load.now, load.start_seconds, rate.per_second)
    if ahead is None:
        reason = "the time of day says nothing more than the rate now"
        return Wanted(base.workers, (reason, *base.reasons))
    offered = ahead.per_second * mean
    slots = offered + MARGIN * sqrt(offered + (ahead.error * mean) ** 2)
    workers = ceil(slots / load.slots - 1e-9)
    reason = (
        f"as on {ahead.days} days at this time, {ahead.per_second:.3g} tasks per second (+- "
        f"{ahead.error:.2g}) are expected in {load.start_seconds:.0f} s: {slots:.1f} slots"
    )
    if workers <= base.workers:
        return Wanted(base.workers, (f"{reason}, no more than for the rate now", *base.reasons))
    return Wanted(workers, (reason, f"that is more than the rate now needs: {base.workers}"))


def expected_rate(
    past: Arrivals, now: float, ahead: float, rate: float
) -> Forecast | None:
    """The highest rate in the next `ahead` seconds as the time of day lets expect.

    `rate` is that of now, in tasks per second. None if the time of day says nothing.
    """
    interval = past.interval
    if interval <= 0 or DAY_SECONDS % interval:
        return None
    first = int((now - past.ended) // interval)
    last = int((now + ahead - past.ended) // interval)
    found = (_interval(past, number, rate) for number in range(max(first, 0), last + 1))
    return max(filter(None, found), key=lambda each: each.per_second, default=None)


def _interval(past: Arrivals, number: int, rate: float) -> Forecast | None:
    """The forecast for the interval that begins so many intervals after the record has ended."""
    counts, interval = past.counts, past.interval
    day = int(DAY_SECONDS / interval)
    back = int(LEVEL_SECONDS / interval)
    size = len(counts)
    # The ends of the record so many days ago, the newest first, with an hour before each.
    ends = range(size - day, back - 1, -day)
    if len(ends) < FEWEST_DAYS:
        return None
    then = [counts[end + number] / interval for end in ends if end + number < size]
    before = [counts[end - 1] / interval for end in ends]
    levels = [sum(counts[end - back : end]) for end in ends]
    days, usual, level = len(then), sum(then), sum(levels)
    steady, seasonal = 0.0, 0.0
    for rate_then, rate_before, own in zip(then, before, levels, strict=True):
        steady += (rate_then - rate_before) ** 2
        # As the other days, times how much busier this one was.
        guess = (usual - rate_then) * own / (level - own) if level > own else rate_before
        seasonal += (rate_then - guess) ** 2
    # Half the log of a ratio of variances has a standard error of 1 / sqrt(days) (R. A. Fisher).
    if not level or steady <= seasonal * exp(2 * CLEARLY / sqrt(days)):
        return None
    today = usual * sum(counts[size - back :]) / level
    weight = steady / (steady + seasonal)
    error = sqrt(steady * seasonal / (steady + seasonal) / days)
    return Forecast(rate + weight * (today - rate), error, days)
