"""What became of the tasks of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.routing.rules.scoring import FloatArray
from fleet.simulation.rules.workload import Workload


class Run(NamedTuple):
    """One run of a task: the pool's place, times in seconds, and whether its answer was good."""

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
        """Of no values all are 0."""
        if not len(values):
            return cls(0.0, 0.0, 0.0)
        p50, p99 = np.quantile(values, (0.5, 0.99))
        return cls(float(values.mean()), float(p50), float(p99))


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of each task, a column each, in the order of their arrival.

    `wait` sums the seconds before all runs of a task; `answer` is the time from its first
    submission to the end of its last run, whose answer is `good` or was the last one tried;
    `pool` is the place of that run's pool in `pools`. `runs` counts them. `log` are all runs, in
    the order of their ends.
    """

    pools: tuple[str, ...]
    wait: FloatArray
    answer: FloatArray
    good: npt.NDArray[np.bool_]
    runs: npt.NDArray[np.intp]
    pool: npt.NDArray[np.intp]
    log: Sequence[Run]

    @classmethod
    def of(cls, log: Sequence[Run], workload: Workload, pools: tuple[str, ...]) -> Outcomes:
        """From the runs, of which every task has one at least."""
        count = len(workload)
        columns = zip(*log, strict=True)
        task, pool, submitted, started, ended, good = (np.array(column) for column in columns)
        last = np.empty(count, dtype=np.intp)
        last[task] = np.arange(len(task))  # of one task's runs the later one stays
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
        """The figures of the tasks from the `first` on: those before it found an empty fleet."""
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
    """What became of all tasks: `good` and `again` are shares of them, 0 to 1, `by_pool` too."""

    wait: Spread
    answer: Spread
    good: float
    again: float
    by_pool: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """For `json.dumps`."""
        return asdict(self)
