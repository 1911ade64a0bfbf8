"""The pools, and the work that both sides are given: the same tasks at the same moments."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

LOAD = 0.85
"""Work that arrives, as a share of what all slots can do."""

VARIATION = 2.0
"""Of the work: its standard deviation by its mean, as of answers of language models."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One worker process: tasks at once, and how quick it is at each."""

    name: str
    slots: int
    speed: float = 1.0

    @property
    def capacity(self) -> float:
        """Seconds of work that it does in a second."""
        return self.slots * self.speed


POOLS = (
    Pool("small", 2),
    Pool("small-slow", 2, 0.6),
    Pool("quick", 3, 1.5),
    Pool("slow", 4, 0.7),
    Pool("middle", 5),
    Pool("middle-quick", 5, 1.3),
    Pool("big", 8),
    Pool("biggest-slow", 10, 0.8),
)
QUICK_POOLS = (POOLS[0], POOLS[2], POOLS[3], POOLS[6])


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task: when it is sent, in seconds after the first, and its work in seconds."""

    at: float
    work: float


def arrivals(pools: tuple[Pool, ...], count: int, mean: float, seed: int) -> list[Arrival]:
    """Poisson arrivals of log-normal work, `mean` seconds where the speed is 1.

    A round is short, so its sums are scaled to what they are on average: the load is what it
    says in every round.
    """
    dice = random.Random(seed)
    spread = math.sqrt(math.log(1 + VARIATION**2))
    works = _scaled([dice.lognormvariate(0, spread) for _ in range(count)], mean)
    between = mean / (LOAD * sum(pool.capacity for pool in pools))
    gaps = _scaled([dice.expovariate(1) for _ in range(count)], between)
    moment, found = 0.0, []
    for gap, work in zip(gaps, works, strict=True):
        moment += gap
        found.append(Arrival(moment, work))
    return found


def _scaled(figures: list[float], mean: float) -> list[float]:
    factor = mean * len(figures) / sum(figures)
    return [figure * factor for figure in figures]
