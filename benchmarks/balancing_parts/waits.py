"""What became of a round's tasks, and the figures made of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Run:
    """One task: moments in seconds since 1970 by the machine's clock, and who ran it."""

    sent: float
    started: float
    ended: float
    pool: str

    @property
    def wait(self) -> float:
        """From just before it was submitted until its work began."""
        return self.started - self.sent


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one round, in seconds. `beside_free_slot` is the part of the mean wait during which
    some slot was free: no more than the latency of messages where the balancing is perfect."""

    p50: float
    p99: float
    mean: float
    beside_free_slot: float


def figures(runs: Sequence[Run], slots: int) -> Figures:
    waits = [run.wait for run in runs]
    return Figures(
        statistics.median(waits),
        percentile(waits, 99),
        statistics.fmean(waits),
        beside_free_slot(runs, slots),
    )


def percentile(values: Iterable[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def beside_free_slot(runs: Sequence[Run], slots: int) -> float:
    """Seconds a task, on average, that it waited while there was a free slot for it somewhere.

    At each moment as many of the waiting count as there are free slots.
    """
    turns = [(run.sent, 1, 0) for run in runs]
    turns += [(run.started, -1, 1) for run in runs]
    turns += [(run.ended, 0, -1) for run in runs]
    turns.sort()
    waiting = busy = 0
    total, before = 0.0, turns[0][0]
    for moment, more_waiting, more_busy in turns:
        total += min(waiting, max(slots - busy, 0)) * (moment - before)
        waiting, busy, before = waiting + more_waiting, busy + more_busy, moment
    return total / len(runs)
