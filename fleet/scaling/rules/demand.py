"""How much work comes in: the rate of arrivals now, and how irregular they are."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from fleet.scaling.rules.values import Arrivals, PoolLoad

CHANGE = 4.0
"""A jump of the rate counts from so many standard deviations on. The largest of 60 differences of
equal rates reaches 3 in a tenth of all cases, and 4 hardly ever."""


class Rate(NamedTuple):
    """Tasks per second, from how many seconds, and the index of dispersion of their counts.

    The dispersion is variance over mean of the counts of short intervals: 1 for a Poisson stream,
    never under 1 here.
    """

    per_second: float
    seconds: float
    dispersion: float


def arrival_rate(arrivals: Arrivals) -> Rate:
    """The rate since it last changed.

    The counts are split where the rates before and after differ most. If they differ by more than
    `CHANGE` standard deviations, only the newer part counts, and is split again: binary
    segmentation (A. J. Scott and M. Knott, 1974). So a steady rate is averaged over minutes, and a
    burst is noticed in one interval.
    """
    counts = arrivals.counts
    if not counts or arrivals.interval <= 0:
        return Rate(0.0, 0.0, 1.0)
    spread = dispersion(counts)
    start = 0
    while (split := _change(counts, start, spread)) is not None:
        start = split
    kept = len(counts) - start
    seconds = kept * arrivals.interval
    return Rate(sum(counts[start:]) / seconds, seconds, spread)


def dispersion(counts: tuple[int, ...]) -> float:
    """Variance over mean, at least 1.

    The variance is half the mean square of successive differences (J. von Neumann, 1941), which a
    slow change of the rate does not raise.
    """
    total = sum(counts)
    if len(counts) < 2 or not total:
        return 1.0
    squares = sum((b - a) ** 2 for a, b in pairwise(counts))
    return max(1.0, squares / (2 * (len(counts) - 1)) / (total / len(counts)))


def _change(counts: tuple[int, ...], start: int, spread: float) -> int | None:
    """Where the newer part begins, or None if the rate is the same throughout."""
    size = len(counts) - start
    total = sum(counts[start:])
    if size < 2 or not total:
        return None
    best, found = CHANGE, None
    older = 0
    for number in range(1, size):
        older += counts[start + number - 1]
        newer = size - number
        difference = abs((total - older) / newer - older / number)
        deviation = sqrt(spread * total / size * (1 / newer + 1 / number))
        if difference > best * deviation:
            best, found = difference / deviation, start + number
    return found


def offered_slots(load: PoolLoad, per_second: float) -> float:
    """How many slots a rate keeps busy: rate x mean service, by Little's law.

    Before any task has ended, the tasks that run or wait stand for the mean.
    """
    if load.service.tasks:
        return per_second * load.service.mean
    return float(load.running + load.queued)


def first_wait(ready: int, start_seconds: float, decision_seconds: float) -> float:
    """The seconds that the next task of an idle pool is expected to wait for a worker.

    With a worker ready it is none. From zero workers it is half the time between two decisions and
    the start of a worker.
    """
    return 0.0 if ready else decision_seconds / 2 + start_seconds
