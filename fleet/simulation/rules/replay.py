"""Recorded tasks as a workload, and pools estimated from the record.

The time of a run in another pool is unknown. The assumption is that pools differ by a factor for
each request type. A run of s seconds in pool a takes

    s x seconds(b) / seconds(a)

in pool b, where `seconds` is a pool's mean over the record. A pool with few runs of a request type
is assumed to be like the others: see `fleet.routing.rules.statistics.blended`. Likewise, a run that
was good in its own pool is good in a better pool, and by chance in a worse one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from fleet.routing.rules.scoring import FloatArray
from fleet.routing.rules.statistics import UNTRIED, Estimate, Statistic, blended, expected
from fleet.simulation.rules.pools import Skill
from fleet.simulation.rules.workload import Kind, Workload

SHORTEST_SECONDS = 1e-3
"""Redis stores times in milliseconds."""


class PastTask(NamedTuple):
    """A task that has ended. Times are in seconds. Unknown values are None or empty.

    `good` says whether its answer passed its checks. `runs` counts its attempts; `run_seconds` is
    the time of the last one.
    """

    submitted: float
    request_type: str
    run_seconds: float
    wait_seconds: float | None = None
    good: bool = True
    pool: str = ""
    tenant: str = "default"
    complexity: float = 0.5
    runs: int = 1
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nanodollars: int | None = None


@dataclass(frozen=True, slots=True)
class Experience:
    """Estimates from the record: by request type over all pools, and by pool and request type."""

    overall: Mapping[str, Estimate]
    by_pool: Mapping[tuple[str, str], Estimate]

    @classmethod
    def of(cls, tasks: Sequence[PastTask]) -> Experience:
        """The estimates from recorded tasks."""
        by_type: dict[str, list[PastTask]] = defaultdict(list)
        by_place: dict[tuple[str, str], list[PastTask]] = defaultdict(list)
        for task in tasks:
            by_type[task.request_type].append(task)
            by_place[task.pool, task.request_type].append(task)
        # Samples without age do not fade, whatever the half-life.
        overall = {name: expected(_statistic(runs), 1.0) for name, runs in by_type.items()}
        by_pool = {
            place: blended(_statistic(runs), overall[place[1]], 1.0)
            for place, runs in by_place.items()
        }
        return cls(overall, by_pool)

    def expects(self, pool: str, request_type: str) -> Estimate:
        """The estimate for a pool. For an unknown pool it is that over all pools."""
        usual = self.overall.get(request_type, UNTRIED)
        return self.by_pool.get((pool, request_type), usual)

    def skills(self, pool: str) -> dict[str, Skill]:
        """A pool's skill for each request type of the record, for the work of `replayed`."""
        estimates = {name: self.expects(pool, name) for name in self.overall}
        return {
            name: Skill(1.0 / max(each.response_seconds, SHORTEST_SECONDS), each.success)
            for name, each in estimates.items()
        }


def replayed(
    tasks: Sequence[PastTask],
    kinds: Mapping[tuple[str, str, float], Kind],
    experience: Experience,
    *,
    rng: np.random.Generator,
    max_runs: int = 1,
) -> Workload:
    """The record as a workload. `kinds` is by (request type, tenant, complexity).

    In its own pool, each task has the recorded time and outcome.
    """
    in_order = sorted(tasks, key=attrgetter("submitted"))
    estimates = [experience.expects(task.pool, task.request_type) for task in in_order]
    places = {key: number for number, key in enumerate(kinds)}
    arrival = np.array([task.submitted for task in in_order])
    usual = np.array([each.response_seconds for each in estimates])
    return Workload(
        arrival - arrival[0],
        np.array([task.run_seconds for task in in_order]) / np.maximum(usual, SHORTEST_SECONDS),
        np.array([places[kind_of(task)] for task in in_order], dtype=np.intp),
        _luck(in_order, np.array([each.success for each in estimates]), max_runs, rng),
        tuple(kinds.values()),
    )


def kind_of(task: PastTask) -> tuple[str, str, float]:
    """The values that tasks with equal rankings share."""
    return task.request_type, task.tenant, task.complexity


def _luck(
    tasks: Sequence[PastTask], success: FloatArray, max_runs: int, rng: np.random.Generator
) -> FloatArray:
    """A draw below the success rate of its pool for a good task, else above it."""
    luck = rng.random((len(tasks), max_runs))
    good = np.array([task.good for task in tasks])
    luck[:, 0] = np.where(good, luck[:, 0] * success, success + luck[:, 0] * (1.0 - success))
    return luck


def _statistic(tasks: Sequence[PastTask]) -> Statistic:
    seconds = sum(task.run_seconds for task in tasks) / len(tasks)
    return Statistic(len(tasks), sum(task.good for task in tasks), seconds)
