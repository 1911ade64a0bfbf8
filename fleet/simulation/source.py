"""The tasks to simulate: recorded, or random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fleet.errors import InvalidRequest
from fleet.simulation.rules.replay import Experience, PastTask, kind_of, replayed
from fleet.simulation.rules.workload import Workload, synthetic
from fleet.simulation.what_if import KindName, WhatIf
from fleet.tasks.submission.checks import DEFAULT_TENANT

SYNTHETIC_COMPLEXITIES = (0.2, 0.5, 0.9)
USUAL_LOAD = 0.8

MEASURED = (
    "when tasks arrived, their request types, and the time and outcome of their last run",
    "tokens and cost, if the record has them",
)
ASSUMED_FOR_RECORD = (
    "in another pool, the time of a run changes by the ratio of the two pools' mean run times of "
    "that request type; a pool with few such runs is assumed to be like the others",
    "a pool has its min agents, or as many as it kept busy at some time in the record",
    "another model takes the same tokens and the same time; its quality is that of the catalogue",
)
ASSUMED_FOR_LOAD = (
    "all pools have the same speed, and each has its min agents",
    "answers are good; in a pool of another agent type (spillover), the share of good answers is "
    "its compatibility with the request type",
    "tokens and cost are the estimates used in the choice of the model; quality is that of the "
    "catalogue",
)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Tasks to simulate. `kinds` names the kinds of the workload. `tasks` has recorded tasks in the
    order of the workload, and `left_out` counts recorded tasks that are not simulated."""

    name: str
    kinds: tuple[KindName, ...]
    workload: Workload
    assumed: tuple[str, ...]
    measured: tuple[str, ...] = ()
    tasks: list[PastTask] = field(default_factory=list)
    experience: Experience | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class SyntheticLoad:
    """A random load. `rate` is in tasks per second; None gives the busiest agent type load 0.8.

    Run times are log-normal, with a mean in seconds and a coefficient of variation. `mix` has the
    share of each request type. If it is empty, all shares are equal.
    """

    tasks: int
    rate: float | None = None
    mean_seconds: float = 10.0
    cv: float = 2.0
    mix: Mapping[str, float] = field(default_factory=dict)


def recorded_source(
    name: str, tasks: Sequence[PastTask], fleet: WhatIf, seed: int, max_runs: int, left_out: int
) -> Source:
    """Recorded tasks as a source. Raises `InvalidRequest` for a request type that `fleet` lacks."""
    in_order = sorted(tasks, key=lambda task: task.submitted)
    kinds = fleet.kinds(sorted({kind_of(task) for task in in_order}))
    experience = Experience.of(in_order)
    rng = np.random.default_rng(seed)
    workload = replayed(in_order, kinds, experience, rng=rng, max_runs=max_runs)
    return Source(
        name,
        tuple(kinds),
        workload,
        ASSUMED_FOR_RECORD,
        MEASURED,
        in_order,
        experience,
        left_out,
    )


def synthetic_source(load: SyntheticLoad, fleet: WhatIf, seed: int, max_runs: int) -> Source:
    """A random load as a source. Raises `InvalidRequest` for an invalid figure or name."""
    shares = dict(load.mix) or dict.fromkeys(fleet.config.request_types, 1.0)
    names = tuple((name, DEFAULT_TENANT, c) for name in shares for c in SYNTHETIC_COMPLEXITIES)
    kinds = fleet.kinds(names)
    rate = rate_for_load(fleet, shares, load.mean_seconds) if load.rate is None else load.rate
    workload = synthetic(
        tuple(kinds.values()),
        [shares[name] for name, _, _ in names],
        tasks=load.tasks,
        rate=rate,
        mean_seconds=load.mean_seconds,
        cv=load.cv,
        max_runs=max_runs,
        rng=np.random.default_rng(seed),
    )
    drawn = (
        f"{rate:.4g} tasks per second arrive at random: a third simple, a third medium, a third "
        f"complex; run times are log-normal with a mean of {load.mean_seconds:g} s and a "
        f"coefficient of variation of {load.cv:g}"
    )
    return Source("synthetic", names, workload, (drawn, *ASSUMED_FOR_LOAD))


def rate_for_load(fleet: WhatIf, shares: Mapping[str, float], mean_seconds: float) -> float:
    """The tasks per second that give the busiest agent type the usual load.

    Raises `InvalidRequest` if there is no such rate.
    """
    slots: dict[str, int] = {}
    for pool in fleet.pools():
        slots[pool.agent_type] = slots.get(pool.agent_type, 0) + pool.slots
    wanted: dict[str, float] = {}
    for name, share in shares.items():
        agent_type = fleet.config.request_types[name].agent_type
        wanted[agent_type] = wanted.get(agent_type, 0.0) + share
    shared = {name: share for name, share in wanted.items() if share > 0 and name in slots}
    if not shared or not mean_seconds > 0:
        raise InvalidRequest(
            "no rate follows from this mix and mean; give shares and a mean of more than 0, or the "
            "tasks per second with --rate"
        )
    most = min(slots[name] / share for name, share in shared.items())
    return USUAL_LOAD * most * sum(wanted.values()) / mean_seconds
