"""How much work comes in: the rate of arrivals now, and how irregular they are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from fleet.scaling.rules.values import Arrivals, PoolLoad

CHANGE = 4.0
"""A jump of the rate counts from so many standard deviations on. Of the few differences that are
tried, one of equal rates reaches that in a thousandth of all cases at most."""


class Rate(NamedTuple):
    """Tasks per second, and the seconds over which they were counted."""

    per_second: float
    seconds: float


def arrival_rate(arrivals: Arrivals) -> Rate:
    """The rate since it last changed.

    The newest 1, 2, 4, ... intervals are compared with those before. Where the rates differ most,
    and by more than `CHANGE` standard deviations, only the newer part counts, and is compared with
    itself in the same way: binary segmentation (A. J. Scott and M. Knott, 1974). So a steady rate
    is averaged over minutes, and a burst is noticed in one interval.
    """
    counts = arrivals.counts
    if not counts or arrivals.interval <= 0:
        return Rate(0.0, 0.0)
    spread = dispersion(counts)
    kept = len(counts)
    while (newer := _changed(counts[-kept:], spread)) is not None:
        kept = newer
    seconds = kept * arrivals.interval
    return Rate(sum(counts[-kept:]) / seconds, seconds)


def dispersion(counts: Sequence[int]) -> float:
    """Variance over mean, 1 for a Poisson stream, and at least 1 here.

    The variance is half the mean square of successive differences (J. von Neumann, 1941), which a
    slow change of the rate does not raise.
    """
    total = sum(counts)
    if len(counts) < 2 or not total:
        return 1.0
    squares = sum([(b - a) ** 2 for a, b in pairwise(counts)])
    return max(1.0, squares / (2 * (len(counts) - 1)) / (total / len(counts)))


def _changed(counts: Sequence[int], spread: float) -> int | None:
    """How many of the newest counts have a rate of their own, or None if none have."""
    size, total = len(counts), sum(counts)
    best, found, newer = CHANGE, None, 1
    while newer < size and total:
        after, older = sum(counts[-newer:]), size - newer
        difference = abs(after / newer - (total - after) / older)
        deviation = sqrt(spread * total / size * (1 / newer + 1 / older))
        if difference > best * deviation:
            best, found = difference / deviation, newer
        newer *= 2
    return found


def offered_slots(load: PoolLoad, per_second: float) -> float:
    """How many slots a rate keeps busy: rate x mean service, by Little's law.

    Before any task has ended, the tasks that run or wait stand for the mean.
    """
    if load.service.tasks:
        return per_second * load.service.mean
    return float(load.running + load.queued)


def first_wait(start_seconds: float, decision_seconds: float, starting: bool) -> float:
    """The seconds that the first task of a pool without workers is expected to wait for one.

    On average half the time between two decisions passes until one is started, then its start. If
    one starts already, its start is the upper bound.
    """
    return start_seconds if starting else decision_seconds / 2 + start_seconds
