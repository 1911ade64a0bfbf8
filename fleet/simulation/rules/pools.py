"""The pools of a simulation: their abilities, their state, and what is known of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from fleet.routing.rules.health import EJECTED, RETURNING, HealthPolicy, PoolHealth, judge, needed
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolTable
from fleet.routing.rules.statistics import NO_WINDOW, OutcomeWindow, blended, counted, expected
from fleet.simulation.rules.health import WELL, SimulatedHealth, forgiven

USUAL_POLICY = HealthPolicy()
UNGATED = 10**9
"""The open slots of a pool whose gateway does not check for free slots."""


class Skill(NamedTuple):
    """A run takes work / `speed` seconds, and its answer is good with probability `success`."""

    speed: float = 1.0
    success: float = 1.0


FAULTLESS = Skill()


@dataclass(frozen=True, slots=True)
class SimulatedPool:
    """The true abilities of a pool. The simulated fleet learns them only from outcomes.

    `slots` counts the slots of all its agents. `by_request` has the skill for single request types.
    From `worse_from` on, in seconds, the skill is `worse` for all requests.
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
        """The skill for a request type now."""
        if now >= self.worse_from:
            return self.worse
        return self.by_request.get(request_type, self.skill)


class Job(NamedTuple):
    """A run of a task, submitted at `submitted`. `run` counts from 0."""

    task: int
    kind: int
    run: int
    submitted: float


class PoolState:
    """The state of a pool during a simulation.

    `in_flight` counts the tasks given to it. Those in `queue` wait for a slot.
    """

    def __init__(
        self, place: int, pool: SimulatedPool, half_life_seconds: float, policy: HealthPolicy
    ) -> None:
        self.place = place
        self.pool = pool
        self.half_life = half_life_seconds
        self.policy = policy
        self.health: SimulatedHealth = WELL
        self.in_flight = 0
        self.queue: deque[Job] = deque()
        self.overall: OutcomeWindow = NO_WINDOW
        self.by_request: dict[str, OutcomeWindow] = {}

    @property
    def has_free_slot(self) -> bool:
        return self.in_flight - len(self.queue) < self.pool.slots

    def load(self, now: float) -> PoolCounts:
        """The exact counts of the pool."""
        if self.health is WELL:
            return PoolCounts(1, self.in_flight, self.pool.slots)
        standing = self.health.standing(now, self.policy)
        return PoolCounts(1, self.in_flight, self.pool.slots, self.open_slots(now), standing)

    def open_slots(self, now: float) -> int:
        """The number of slots that may be taken, given its health."""
        return self.health.open_slots(self.pool.slots, now, self.policy)

    def seen(self, now: float) -> PoolHealth:
        """The values that `judge` decides on."""
        standing = self.health.standing(now, self.policy)
        statistic = self.overall.statistic(now)
        return PoolHealth(
            self.pool.name, 1, standing, statistic, self.in_flight, self.open_slots(now)
        )

    def count(self, request_type: str, good: bool, seconds: float, now: float) -> None:
        """Count the outcome of a run."""
        self.overall = counted(self.overall, good, seconds, now, self.half_life)
        narrow = self.by_request.get(request_type, NO_WINDOW)
        self.by_request[request_type] = counted(narrow, good, seconds, now, self.half_life)
        before, self.health = self.health, self.health.after(good, now, self.policy)
        if before.state == EJECTED and self.health.state == RETURNING:
            self.overall = forgiven(self.overall, self.health.good, now)

    def facts(self, now: float, gated: bool) -> PoolFacts:
        """The pool in a snapshot taken now."""
        pool, half_life = self.pool, self.half_life
        overall = expected(self.overall.statistic(now), half_life)
        return PoolFacts(
            name=pool.name,
            agent_type=pool.agent_type,
            queue=pool.name,
            weight=pool.weight,
            spillover=pool.helps,
            live_agents=1,
            capacity=pool.slots,
            in_flight=self.in_flight,
            success_rate=overall.success,
            response_seconds=overall.response_seconds,
            typical_seconds=overall.typical_seconds,
            likely_success=overall.likely_success,
            health_state=self.health.standing(now, self.policy),
            open_slots=self.open_slots(now) if gated else UNGATED,
            by_request={
                request_type: blended(window.statistic(now), overall, half_life)
                for request_type, window in self.by_request.items()
            },
        )


class SimulatedFleet:
    """All pools of a simulation."""

    def __init__(
        self,
        pools: Iterable[SimulatedPool],
        half_life_seconds: float,
        policy: HealthPolicy = USUAL_POLICY,
    ) -> None:
        states = [PoolState(n, pool, half_life_seconds, policy) for n, pool in enumerate(pools)]
        self.policy = policy
        self.states = {state.pool.name: state for state in states}
        self._loads = {name: state.load(0.0) for name, state in self.states.items()}

    def loads(self, now: float) -> Mapping[str, PoolCounts]:
        """The exact counts of all pools, as the atomic step sees them now."""
        for state in self.unwell:
            self._loads[state.pool.name] = state.load(now)
        return self._loads

    @property
    def unwell(self) -> list[PoolState]:
        """The pools that are or were ejected. Their open slots change with time."""
        return [state for state in self.states.values() if state.health is not WELL]

    def give(self, state: PoolState, tasks: int, now: float) -> None:
        """Add tasks to a pool, or remove them."""
        state.in_flight += tasks
        self._loads[state.pool.name] = state.load(now)

    def look(self, agent_type: str, waiting: int, now: float) -> None:
        """Eject the unhealthy pools of a type, as `look_at_pools` does, and readmit those that are
        needed."""
        states = [s for s in self.states.values() if s.pool.agent_type == agent_type]
        seen = [state.seen(now) for state in states]
        for ejection in judge(seen, self.policy):
            state = self.states[ejection.pool]
            if any(peer.open_slots(now) == peer.pool.slots for peer in states if peer is not state):
                state.health = state.health.ejected(now, self.policy)
        for name in needed(seen, waiting, self.policy):
            self.states[name].health = WELL
        for state in states:
            self.give(state, 0, now)

    def table(self, now: float, gated: bool) -> PoolTable:
        """A snapshot taken now."""
        return PoolTable.of(state.facts(now, gated) for state in self.states.values())
