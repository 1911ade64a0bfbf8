"""The outcomes of the tasks of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.routing.rules.scoring import FloatArray
from fleet.simulation.rules.workload import Workload


class SimulatedRun(NamedTuple):
    """One run of a task: its pool's index, times in seconds, and whether its answer was good."""

    task: int
    pool: int
    submitted: float
    started: float
    ended: float
    good: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity over tasks, in seconds."""

    mean: float
    p50: float
    p99: float

    @classmethod
    def of(cls, values: FloatArray) -> Spread:
        """The mean and quantiles of the values. All are 0 without values."""
        if not len(values):
            return cls(0.0, 0.0, 0.0)
        p50, p99 = np.quantile(values, (0.5, 0.99))
        return cls(float(values.mean()), float(p50), float(p99))


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """The outcome of each task, as columns in the order of arrival.

    `wait` is the sum of the waits before all runs of a task, in seconds. `answer` is the time from
    its first submission to the end of its last run. `good` says whether the answer of that run was
    good, `pool` is the index of its pool in `pools`. `runs` counts the runs. `log` has all runs in
    the order of their ends.
    """

    pools: tuple[str, ...]
    wait: FloatArray
    answer: FloatArray
    good: npt.NDArray[np.bool_]
    runs: npt.NDArray[np.intp]
    pool: npt.NDArray[np.intp]
    log: Sequence[SimulatedRun]

    @classmethod
    def of(
        cls, log: Sequence[SimulatedRun], workload: Workload, pools: tuple[str, ...]
    ) -> Outcomes:
        """The outcomes from all runs. Every task has at least one."""
        count = len(workload)
        columns = zip(*log, strict=True)
        task, pool, submitted, started, ended, good = (np.array(column) for column in columns)
        last = np.empty(count, dtype=np.intp)
        last[task] = np.arange(len(task))  # the last run of each task wins
        return cls(
            pools,
            np.bincount(task, started - submitted, count).astype(np.float64),
            ended[last] - workload.arrival,
            good[last],
            np.bincount(task, minlength=count),
            pool[last],
            log,
        )

    def figures(self, first: int = 0) -> Figures:
        """The figures of the tasks from `first` on. Earlier tasks found an empty fleet."""
        pool = np.bincount(self.pool[first:], minlength=len(self.pools)) / len(self.pool[first:])
        return Figures(
            Spread.of(self.wait[first:]),
            Spread.of(self.answer[first:]),
            float(self.good[first:].mean()),
            float((self.runs[first:] > 1).mean()),
            dict(zip(self.pools, pool.tolist(), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over all tasks. `good`, `again` (retried) and `by_pool` are shares from 0 to 1."""

    wait: Spread
    answer: Spread
    good: float
    again: float
    by_pool: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """For `json.dumps`."""
        return asdict(self)
