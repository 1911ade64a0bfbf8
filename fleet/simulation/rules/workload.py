"""The tasks of a simulation: random ones are made here, recorded ones in `replay`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidRequest
from fleet.routing.rules.scoring import FloatArray
from fleet.routing.rules.strategies import RouteRequest


class Kind(NamedTuple):
    """The values that tasks with equal rankings share."""

    request: RouteRequest
    tenant: str = "default"


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Tasks as columns, in the order of arrival.

    `arrival` is in seconds. `work` has the seconds that a run takes in a pool of speed 1. `kind` is
    an index in `kinds`. `luck`, of shape (tasks, maximum runs), has random numbers from 0 to 1: a
    run is good if its number is below the pool's success rate. A task whose run was not good is
    submitted again while it has numbers left. Two simulations of one workload share these numbers,
    so they differ only by their decisions.
    """

    arrival: FloatArray
    work: FloatArray
    kind: npt.NDArray[np.intp]
    luck: FloatArray
    kinds: tuple[Kind, ...]

    @property
    def max_runs(self) -> int:
        """The maximum number of runs of a task."""
        return int(self.luck.shape[1])

    def __len__(self) -> int:
        return len(self.arrival)


MOST = 1e9
"""The maximum of a rate, a time and a share. Larger values overflow."""


def synthetic(
    kinds: Sequence[Kind],
    shares: Sequence[float],
    *,
    tasks: int,
    rate: float,
    mean_seconds: float,
    cv: float,
    rng: np.random.Generator,
    max_runs: int = 1,
) -> Workload:
    """A Poisson stream of `rate` tasks per second with log-normal work.

    `shares` has the relative frequency of each kind; the sum need not be 1. Raises
    `InvalidRequest` for a figure out of range.
    """
    _refuse(tasks < 1, f"{tasks} tasks: give at least 1")
    upto = f"and at most {MOST:g}"
    _refuse(
        not 0 < rate <= MOST, f"a rate of {rate:g} tasks per second: give more than 0, {upto}"
    )
    _refuse(
        not 0 < mean_seconds <= MOST, f"a mean of {mean_seconds:g} s: give more than 0, {upto}"
    )
    _refuse(
        not 0 <= cv <= MOST, f"a coefficient of variation of {cv:g}: give 0 or more, {upto}"
    )
    _refuse(max_runs < 1, f"{max_runs} runs: give at least 1")
    weights = np.asarray(shares, dtype=np.float64)
    _refuse(
        len(weights) != len(kinds)
        or not ((weights >= 0) & (weights <= MOST)).all()
        or not weights.sum() > 0,
        f"give each kind of task a share from 0 to {MOST:g}, at least one of them over 0",
    )
    return Workload(
        np.cumsum(rng.exponential(1.0 / rate, tasks)),
        lognormal(mean_seconds, cv, tasks, rng),
        rng.choice(len(kinds), tasks, p=weights / weights.sum()),
        rng.random((tasks, max_runs)),
        tuple(kinds),
    )


def lognormal(mean: float, cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """Log-normal draws with this mean and coefficient of variation. With 0, all equal the mean."""
    variance = np.log1p(cv**2)
    return rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise InvalidRequest(sentence)
