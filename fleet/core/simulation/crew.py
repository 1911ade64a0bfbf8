"""The pools of a simulation: what they can do, what they are doing, what is known of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from fleet.core.pools import Load, PoolFacts, PoolTable
from fleet.core.statistics import NO_WINDOW, Window, blended, counted, expected

UNGATED = 10**9
"""The open slots of a pool whose gateway does not look whether one is free."""


class Skill(NamedTuple):
    """A run takes work / `speed` seconds, and its answer is good with probability `success`."""

    speed: float = 1.0
    success: float = 1.0


FAULTLESS = Skill()


@dataclass(frozen=True, slots=True)
class SimulatedPool:
    """A pool as it truly is, which nobody in the simulation knows but by its outcomes.

    `slots` are those of all its agents together. `by_request` has the skill for single request
    types. From `worse_from` on, in seconds, it is `worse`, whatever is asked.
    """

    name: str
    agent_type: str
    slots: int
    weight: int = 5
    helps: frozenset[str] = frozenset()
    skill: Skill = FAULTLESS
    by_request: Mapping[str, Skill] = field(default_factory=dict)
    worse_from: float = inf
    worse: Skill = FAULTLESS

    def skill_at(self, request_type: str, now: float) -> Skill:
        """How it does a request now."""
        if now >= self.worse_from:
            return self.worse
        return self.by_request.get(request_type, self.skill)


class Job(NamedTuple):
    """A task that was submitted at `submitted`, for the `run`th time, counted from 0."""

    task: int
    kind: int
    run: int
    submitted: float


class PoolState:
    """A pool in the course of a simulation.

    `in_flight` are the tasks that were given to it, of which those in `queue` wait for a slot.
    """

    def __init__(self, place: int, pool: SimulatedPool, half_life_seconds: float) -> None:
        self.place = place
        self.pool = pool
        self.half_life = half_life_seconds
        self.in_flight = 0
        self.queue: deque[Job] = deque()
        self.overall: Window = NO_WINDOW
        self.by_request: dict[str, Window] = {}

    @property
    def has_free_slot(self) -> bool:
        return self.in_flight - len(self.queue) < self.pool.slots

    @property
    def load(self) -> Load:
        """Its exact counts."""
        return Load(1, self.in_flight, self.pool.slots)

    def count(self, request_type: str, good: bool, seconds: float, now: float) -> None:
        """Count the outcome of a run."""
        self.overall = counted(self.overall, good, seconds, now, self.half_life)
        narrow = self.by_request.get(request_type, NO_WINDOW)
        self.by_request[request_type] = counted(narrow, good, seconds, now, self.half_life)

    def facts(self, now: float, gated: bool) -> PoolFacts:
        """What a snapshot taken now says of it."""
        pool, half_life = self.pool, self.half_life
        overall = expected(self.overall.statistic(now), half_life)
        return PoolFacts(
            name=pool.name,
            agent_type=pool.agent_type,
            queue=pool.name,
            weight=pool.weight,
            helps=pool.helps,
            live_agents=1,
            capacity=pool.slots,
            in_flight=self.in_flight,
            success_rate=overall.success,
            response_seconds=overall.response_seconds,
            open_slots=None if gated else UNGATED,
            by_request={
                request_type: blended(window.statistic(now), overall, half_life)
                for request_type, window in self.by_request.items()
            },
        )


class Crew:
    """All pools of a simulation."""

    def __init__(self, pools: Iterable[SimulatedPool], half_life_seconds: float) -> None:
        states = [PoolState(n, pool, half_life_seconds) for n, pool in enumerate(pools)]
        self.states = {state.pool.name: state for state in states}
        self.loads = {name: state.load for name, state in self.states.items()}
        """The exact counts of all pools, as the atomic step sees them."""

    def give(self, state: PoolState, tasks: int) -> None:
        """Give a pool so many tasks more, or fewer."""
        state.in_flight += tasks
        self.loads[state.pool.name] = state.load

    def table(self, now: float, gated: bool) -> PoolTable:
        """A snapshot taken now."""
        return PoolTable.of(state.facts(now, gated) for state in self.states.values())
