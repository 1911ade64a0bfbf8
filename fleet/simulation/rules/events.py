"""The event loop of a simulation: tasks arrive, runs end, and free slots take waiting tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidRequest
from fleet.routing.rules.health import HealthPolicy
from fleet.routing.rules.strategies import STRATEGIES, Strategy
from fleet.simulation.rules.binding import BINDINGS, Binding
from fleet.simulation.rules.outcomes import Outcomes, SimulatedRun
from fleet.simulation.rules.pools import USUAL_POLICY, Job, PoolState, SimulatedFleet, SimulatedPool
from fleet.simulation.rules.producers import Planning, Producer, Way
from fleet.simulation.rules.workload import Workload

PROGRESS_EVERY = 1000
TICK_SECONDS = 1.0
"""The interval at which a worker checks for messages without being woken."""

Progress = Callable[[int], None]
"""Called with the number of tasks that have arrived."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The assumptions of a simulation, besides tasks and pools.

    `age` is the maximum age of a producer's snapshot, `handover` the time between a free slot and
    the start of its next run, `half_life` that of the statistics, all in seconds. `binding` is
    `late` or `push`. Pools are ejected by the policy `health`, which is applied every `look`
    seconds. None: pools are never ejected.
    """

    binding: str = "late"
    age: float = 1.0
    producers: int = 4
    handover: float = 0.0
    half_life: float = 600.0
    health: HealthPolicy | None = None
    look: float = 10.0


AS_THE_FLEET = Conditions()


def simulate(
    workload: Workload,
    pools: Sequence[SimulatedPool],
    ways: Sequence[Way],
    conditions: Conditions = AS_THE_FLEET,
    *,
    rng: np.random.Generator,
    strategies: Mapping[str, Strategy] = STRATEGIES,
    progress: Progress | None = None,
) -> Outcomes:
    """The outcomes of the tasks. `ways` has one way for each kind of the workload.

    Equal arguments, with `rng` in the same state, give equal outcomes. Raises `InvalidRequest` if
    no pool serves a kind, or if a condition is out of range.
    """
    check(workload, pools, conditions)
    fleet = SimulatedFleet(pools, conditions.half_life, conditions.health or USUAL_POLICY)
    bind = BINDINGS[conditions.binding]
    planning = Planning(workload.kinds, ways, conditions.age, bind.gated, rng, strategies)
    producers = [Producer(fleet, planning) for _ in range(conditions.producers)]
    loop = _Loop(workload, fleet, bind(fleet, producers, workload.kinds), conditions)
    loop.run(progress)
    return Outcomes.of(loop.log, workload, tuple(pool.name for pool in pools))


class _Running(NamedTuple):
    """A run that ends at `ended`. `number` orders runs that end at the same time."""

    ended: float
    number: int
    job: Job
    state: PoolState
    started: float
    good: bool


class _Loop:
    def __init__(
        self, workload: Workload, fleet: SimulatedFleet, binding: Binding, conditions: Conditions
    ) -> None:
        self.fleet = fleet
        self.binding = binding
        self.conditions = conditions
        asked = {kind.request.agent_type for kind in workload.kinds}
        self.agent_types = sorted(asked.union(s.pool.agent_type for s in fleet.states.values()))
        self.next_tick = TICK_SECONDS if conditions.health else inf
        self.next_look = conditions.look
        self.request_types = [kind.request.request_type for kind in workload.kinds]
        # Lists, because a loop reads a number from a list in a third of the time.
        self.arrival = workload.arrival.tolist()
        self.work = workload.work.tolist()
        self.kind = workload.kind.tolist()
        self.luck = workload.luck.tolist()
        self.running: list[_Running] = []
        self.begun = 0
        self.log: list[SimulatedRun] = []

    def run(self, progress: Progress | None) -> None:
        for task, now in enumerate(self.arrival):
            self._pass_until(now)
            self._submit(Job(task, self.kind[task], 0, now), now)
            if progress and task % PROGRESS_EVERY == 0:
                progress(task)
        while self.running or any(map(self.binding.waiting, self.agent_types)):
            self._pass_until(self.running[0].ended if self.running else self.next_tick)

    def _pass_until(self, now: float) -> None:
        """Process all events up to a time, in order."""
        running = self.running
        while True:
            ended = running[0].ended if running else inf
            if min(ended, self.next_tick) > now:
                return
            if ended <= self.next_tick:
                self._end(heappop(running))
            else:
                self._tick(self.next_tick)

    def _tick(self, now: float) -> None:
        """Beat checks the pools, and workers check for tasks: a pool may have been readmitted."""
        self.next_tick = now + TICK_SECONDS
        if now >= self.next_look:
            self.next_look = now + self.conditions.look
            for agent_type in self.agent_types:
                self._look(agent_type, now)
        for state in self.fleet.states.values():
            while state.has_free_slot and self._begin_following(state, now):
                pass

    def _submit(self, job: Job, now: float) -> None:
        state = self.binding.place(job, now)
        if state is not None:
            self._begin(job, state, now)

    def _begin(self, job: Job, state: PoolState, now: float) -> None:
        skill = state.pool.skill_at(self.request_types[job.kind], now)
        started = now + self.conditions.handover
        ended = started + self.work[job.task] / skill.speed
        good = bool(self.luck[job.task][job.run] < skill.success)
        self.begun += 1
        heappush(self.running, _Running(ended, self.begun, job, state, started, good))

    def _end(self, run: _Running) -> None:
        job, state, now = run.job, run.state, run.ended
        self.log.append(
            SimulatedRun(job.task, state.place, job.submitted, run.started, now, run.good)
        )
        state.count(self.request_types[job.kind], run.good, now - run.started, now)
        self.fleet.give(state, -1, now)
        health = self.conditions.health
        if health and state.overall.failures_in_row >= health.failures_in_row:
            self._look(state.pool.agent_type, now)
        self._begin_following(state, now)
        if not run.good and job.run + 1 < len(self.luck[job.task]):
            self._submit(job._replace(run=job.run + 1, submitted=now), now)

    def _look(self, agent_type: str, now: float) -> None:
        self.fleet.look(agent_type, self.binding.waiting(agent_type), now)

    def _begin_following(self, state: PoolState, now: float) -> bool:
        """Start a waiting task if the pool may take one. Returns whether it did."""
        following = self.binding.following(state, now)
        if following is None:
            return False
        self._begin(following, state, now)
        return True


def check(workload: Workload, pools: Sequence[SimulatedPool], conditions: Conditions) -> None:
    """Raise `InvalidRequest` for arguments that `simulate` refuses."""
    served = {pool.agent_type for pool in pools}.union(*(pool.helps for pool in pools))
    for kind in workload.kinds:
        if kind.request.agent_type not in served:
            raise InvalidRequest(
                f"no pool serves {kind.request.request_type}: add one of agent type "
                f"{kind.request.agent_type}, or leave out such tasks"
            )
    if conditions.binding not in BINDINGS:
        known = ", ".join(sorted(BINDINGS))
        raise InvalidRequest(f"no binding is called {conditions.binding!r}; use one of: {known}")
    if conditions.producers < 1:
        raise InvalidRequest(f"{conditions.producers} producers submit nothing; give at least 1")
    if not conditions.age >= 0:
        raise InvalidRequest(f"a snapshot cannot be {conditions.age:g} s old; give 0 or more")
