"""The tasks to simulate: a record, or a load drawn by lot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fleet.errors import InvalidRequest
from fleet.simulation.rules.replay import Experience, Recorded, kind_of, replayed
from fleet.simulation.rules.workload import Workload, synthetic
from fleet.simulation.what_if import KindName, WhatIf
from fleet.tasks.submission.checks import DEFAULT_TENANT

SYNTHETIC_COMPLEXITIES = (0.2, 0.5, 0.9)
USUAL_LOAD = 0.8

MEASURED = (
    "when tasks came, what they asked for, how long their last run took and how it ended",
    "tokens and cost, where the record has them",
)
ASSUMED_OF_A_RECORD = (
    "in another pool a run takes longer or shorter by the ratio of the two pools' mean run of that "
    "request type; a pool with few such runs is taken to be like the others",
    "a pool has its min agents, or as many as it once kept busy in the record",
    "another model takes as many tokens and as long; its quality is that of the catalogue",
)
ASSUMED_OF_A_LOT = (
    "all pools are equally quick, and each has its min agents",
    "answers are good; those of a pool that helps another agent type as often as it suits the "
    "request",
    "tokens and cost are the estimates that the model is chosen by; quality is that of the "
    "catalogue",
)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Tasks to simulate. Those of a record are in `tasks`, in the order of the workload, and
    `left_out` counts its others. `kinds` are those of the workload, by name."""

    name: str
    kinds: tuple[KindName, ...]
    workload: Workload
    assumed: tuple[str, ...]
    measured: tuple[str, ...] = ()
    tasks: list[Recorded] = field(default_factory=list)
    experience: Experience | None = None
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class SyntheticLoad:
    """A load to draw. Without a `rate`, in tasks a second, the busiest agent type has load 0.8.

    Runs are log-normal, with a mean in seconds and a coefficient of variation. `mix` says how
    often each request type comes; empty: all alike.
    """

    tasks: int
    rate: float | None = None
    mean_seconds: float = 10.0
    cv: float = 2.0
    mix: Mapping[str, float] = field(default_factory=dict)


def recorded_source(
    name: str, tasks: Sequence[Recorded], fleet: WhatIf, seed: int, max_runs: int, left_out: int
) -> Source:
    """A record as a source. Raises `InvalidRequest` for a request type that `fleet` lacks."""
    in_order = sorted(tasks, key=lambda task: task.submitted)
    kinds = fleet.kinds(sorted({kind_of(task) for task in in_order}))
    experience = Experience.of(in_order)
    rng = np.random.default_rng(seed)
    workload = replayed(in_order, kinds, experience, rng=rng, max_runs=max_runs)
    return Source(
        name,
        tuple(kinds),
        workload,
        ASSUMED_OF_A_RECORD,
        MEASURED,
        in_order,
        experience,
        left_out,
    )


def synthetic_source(load: SyntheticLoad, fleet: WhatIf, seed: int, max_runs: int) -> Source:
    """A load drawn by lot. Raises `InvalidRequest` for a figure or a name that cannot be."""
    shares = dict(load.mix) or dict.fromkeys(fleet.config.request_types, 1.0)
    names = tuple((name, DEFAULT_TENANT, c) for name in shares for c in SYNTHETIC_COMPLEXITIES)
    kinds = fleet.kinds(names)
    rate = bearable_rate(fleet, shares, load.mean_seconds) if load.rate is None else load.rate
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
        f"{rate:.4g} tasks a second come at random, a third of them each simple, middling and "
        f"complex; runs are log-normal with a mean of {load.mean_seconds:g} s and a coefficient "
        f"of variation of {load.cv:g}"
    )
    return Source("synthetic", names, workload, (drawn, *ASSUMED_OF_A_LOT))


def bearable_rate(fleet: WhatIf, shares: Mapping[str, float], mean_seconds: float) -> float:
    """Tasks a second that bring the busiest agent type to the usual load.

    Raises `InvalidRequest` where none follows.
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
            "tasks a second with --rate"
        )
    most = min(slots[name] / share for name, share in shared.items())
    return USUAL_LOAD * most * sum(wanted.values()) / mean_seconds
