"""Where a task goes when it is submitted, and what a slot that comes free takes next.

`LateBinding` is what the fleet does. `Push` is what other gateways do, to compare with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from fleet.routing.rules.health import OWN_WORK
from fleet.routing.rules.pools import PoolCounts
from fleet.routing.rules.ranking import Ranking
from fleet.routing.rules.routing import pick
from fleet.simulation.rules.crew import Crew, Job, PoolState
from fleet.simulation.rules.producers import Producer
from fleet.simulation.rules.workload import Kind


class Binding(Protocol):
    """How tasks and slots come together."""

    def place(self, job: Job, now: float) -> PoolState | None:
        """The pool that begins the task now; None where it waits."""

    def following(self, state: PoolState, now: float) -> Job | None:
        """What a pool with a free slot begins next, now given to it; None where nothing waits."""

    def waiting(self, agent_type: str) -> int:
        """The tasks of a type that wait for any pool to take them."""


class LateBinding:
    """A slot where one is free, else the overflow queue of the agent type: see `submit.lua`.

    A pool's workers look into the overflow queue of their own type first, then into those of
    the types that they help. A pool is offered to another type only while nothing of its own waits.
    Nobody is overtaken: while as many tasks wait as there are free slots, a new one waits too.
    """

    gated = True

    def __init__(self, crew: Crew, producers: Sequence[Producer], kinds: Sequence[Kind]) -> None:
        self.crew = crew
        self.producers = producers
        self.agent_types = [kind.request.agent_type for kind in kinds]
        self.overflow: dict[str, deque[Job]] = {name: deque() for name in self.agent_types}
        self.helpers = {name: self._helping(name) for name in self.overflow}
        self.looks_into = [self._served(state) for state in crew.states.values()]

    def place(self, job: Job, now: float) -> PoolState | None:
        producer = self.producers[job.task % len(self.producers)]
        ranking = producer.ranking(job.kind, now)
        agent_type = self.agent_types[job.kind]
        queue, loads = self.overflow[agent_type], self._loads(agent_type, now)
        passes = not queue or _free(ranking, loads) > len(queue)
        pool = pick(ranking, loads) if passes else None
        if pool is None:
            queue.append(job)
            return None
        state = self.crew.states[pool]
        self.crew.give(state, 1, now)
        producer.took(job.kind, pool, now)
        return state

    def following(self, state: PoolState, now: float) -> Job | None:
        for queue in self.looks_into[state.place]:
            if queue and state.in_flight < state.open_slots(now):
                self.crew.give(state, 1, now)
                return queue.popleft()
        return None

    def waiting(self, agent_type: str) -> int:
        return len(self.overflow.get(agent_type, ()))

    def _loads(self, agent_type: str, now: float) -> Mapping[str, PoolCounts]:
        """The exact loads; of helpers that have work of their own, as the atomic step sees them."""
        loads = self.crew.loads(now)
        closed = {
            state.pool.name: state.load(now)._replace(open_slots=0, health_state=OWN_WORK)
            for state in self.helpers[agent_type]
            if self.overflow.get(state.pool.agent_type)
        }
        return {**loads, **closed} if closed else loads

    def _helping(self, agent_type: str) -> list[PoolState]:
        return [s for s in self.crew.states.values() if agent_type in s.pool.helps]

    def _served(self, state: PoolState) -> list[deque[Job]]:
        served = (state.pool.agent_type, *sorted(state.pool.helps))
        return [self.overflow[name] for name in served if name in self.overflow]


class Push:
    """The pool that is best by the producer's snapshot, free slot or not, and its own queue.

    What the producer has sent since the snapshot it does not know.
    """

    gated = False

    def __init__(self, crew: Crew, producers: Sequence[Producer], kinds: Sequence[Kind]) -> None:
        self.crew = crew
        self.producers = producers

    def place(self, job: Job, now: float) -> PoolState | None:
        producer = self.producers[job.task % len(self.producers)]
        pool = pick(producer.ranking(job.kind, now), producer.loads(now))
        assert pool is not None, "every kind has a pool that serves it: `simulate` has checked"
        state = self.crew.states[pool]
        producer.took(job.kind, pool, now)
        begins = state.has_free_slot
        self.crew.give(state, 1, now)
        if not begins:
            state.queue.append(job)
        return state if begins else None

    def following(self, state: PoolState, now: float) -> Job | None:
        return state.queue.popleft() if state.queue else None

    def waiting(self, agent_type: str) -> int:
        return 0


BINDINGS: Mapping[str, type[LateBinding] | type[Push]] = {"late": LateBinding, "push": Push}


def _free(ranking: Ranking, loads: Mapping[str, PoolCounts]) -> int:
    """The free slots of the ranked pools."""
    ranked = (loads[rule.pool] for rule in ranking.rules)
    return sum(max(0, load.openings - load.in_flight) for load in ranked)
