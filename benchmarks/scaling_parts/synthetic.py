"""A made day: twelve busy hours with bursts, and the week before them."""

from __future__ import annotations

import numpy as np

from fleet.scaling.rules.arrivals import LONG_TERM
from fleet.scaling.rules.simulation import FloatArray, Trace
from fleet.scaling.rules.values import Arrivals
from fleet.simulation.rules.workload import lognormal

HOUR = 3600.0
DAY_SECONDS, BUSY_SECONDS = 24 * HOUR, 12 * HOUR
DAYS_BEFORE = 7
RATE = 2.0
MEAN_SECONDS, CV = 10.0, 1.0
BURSTS, SCHEDULED = 12, 6
FACTOR = (3.0, 5.0)
DURATION = (180.0, 600.0)
JITTER_SECONDS = 60.0
DAY_SPREAD = 0.15


def day(seed: int) -> Trace:
    """Twelve hours that are simulated, with the counts of the 7 days before as their past.

    The rate of a day goes from half of `RATE` to one and a half of it and back, at night to a
    tenth. Each of twelve bursts a day multiplies it by 3 to 5 for 3 to 10 minutes, from one moment
    to the next. Six bursts come at the same time each day, give or take a minute, as scheduled jobs
    do; six at random. Each day as a whole is busier or quieter than another by some 15 %. Tasks
    come as a Poisson stream and run a log-normal time.
    """
    rng = np.random.default_rng(seed)
    plan = _bursts(rng, SCHEDULED)
    counts = [rng.poisson(_rates(rng, plan)) for _ in range(DAYS_BEFORE)]
    by_interval = np.concatenate(counts).reshape(-1, LONG_TERM.seconds).sum(axis=1)
    past = Arrivals(LONG_TERM.seconds, 0.0, tuple(by_interval.tolist()))
    rates = _rates(rng, plan)[: int(BUSY_SECONDS)]
    arrival = np.repeat(np.arange(len(rates), dtype=np.float64), rng.poisson(rates))
    arrival = np.sort(arrival + rng.random(len(arrival)))
    return Trace(arrival, lognormal(MEAN_SECONDS, CV, len(arrival), rng), past)


def _bursts(rng: np.random.Generator, count: int) -> FloatArray:
    """Start, length and factor of bursts within the busy hours, a row each."""
    lengths = rng.uniform(*DURATION, count)
    starts = rng.uniform(0.0, BUSY_SECONDS - lengths)
    return np.column_stack([starts, lengths, rng.uniform(*FACTOR, count)])


def _rates(rng: np.random.Generator, plan: FloatArray) -> FloatArray:
    """Tasks per second in each second of a day that begins with its busy hours."""
    seconds = np.arange(0.0, DAY_SECONDS, 1.0)
    busy = 1.0 - 0.5 * np.cos(2 * np.pi * seconds / BUSY_SECONDS)
    rate = RATE * np.where(seconds < BUSY_SECONDS, busy, 0.1)
    shifted = plan + np.array([1.0, 0.0, 0.0]) * rng.uniform(-1, 1, (len(plan), 1)) * JITTER_SECONDS
    for start, length, factor in (*shifted, *_bursts(rng, BURSTS - SCHEDULED)):
        inside = (seconds >= start) & (seconds < start + length)
        rate[inside] = np.maximum(rate[inside], factor * RATE * busy[inside])
    busier: FloatArray = rate * lognormal(1.0, DAY_SPREAD, 1, rng)
    return busier
