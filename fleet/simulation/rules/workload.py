"""The tasks of a simulation: drawn by lot here, or taken from a record (`replay`)."""

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
    """What all tasks that are ranked alike have in common."""

    request: RouteRequest
    tenant: str = "default"


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Tasks in the order of their arrival, a column each.

    `arrival` is in seconds; `work` are the seconds that a run takes in a pool of speed 1; `kind`
    is the place in `kinds`. `luck`, of shape (tasks, most runs), is 0 to 1: a run is good where it
    is under the pool's success rate. A task whose run was not good is submitted again for as
    long as it has luck left. Two simulations of one workload share their luck, so they differ
    by what was decided alone.
    """

    arrival: FloatArray
    work: FloatArray
    kind: npt.NDArray[np.intp]
    luck: FloatArray
    kinds: tuple[Kind, ...]

    @property
    def max_runs(self) -> int:
        """So often a task is tried."""
        return int(self.luck.shape[1])

    def __len__(self) -> int:
        return len(self.arrival)


MOST = 1e9
"""Of a rate, a time and a share: with more, figures of this size overflow."""


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
    """A Poisson stream of `rate` tasks a second with log-normal work.

    `shares` says how often each kind is drawn; they need not sum to 1. Raises
    `InvalidRequest` for a figure out of range.
    """
    _refuse(tasks < 1, f"{tasks} tasks are none to simulate; give at least 1")
    upto = f"and at most {MOST:g}"
    _refuse(
        not 0 < rate <= MOST, f"a rate of {rate:g} tasks a second: give more than 0, {upto}"
    )
    _refuse(
        not 0 < mean_seconds <= MOST, f"a mean of {mean_seconds:g} s: give more than 0, {upto}"
    )
    _refuse(
        not 0 <= cv <= MOST, f"a coefficient of variation of {cv:g}: give 0 or more, {upto}"
    )
    _refuse(max_runs < 1, f"{max_runs} runs are none; give at least 1")
    weights = np.asarray(shares, dtype=np.float64)
    _refuse(
        len(weights) != len(kinds)
        or not ((weights >= 0) & (weights <= MOST)).all()
        or not weights.sum() > 0,
        f"give each kind of task a share from 0 to {MOST:g}, and one of them more than 0",
    )
    return Workload(
        np.cumsum(rng.exponential(1.0 / rate, tasks)),
        lognormal(mean_seconds, cv, tasks, rng),
        rng.choice(len(kinds), tasks, p=weights / weights.sum()),
        rng.random((tasks, max_runs)),
        tuple(kinds),
    )


def lognormal(mean: float, cv: float, count: int, rng: np.random.Generator) -> FloatArray:
    """So many draws with this mean and coefficient of variation; all the mean where that is 0."""
    variance = np.log1p(cv**2)
    return rng.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), count)


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise InvalidRequest(sentence)
