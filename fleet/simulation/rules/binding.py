"""Where a submitted task goes, and which task a free slot takes next.

The fleet uses `LateBinding`. `Push` stands for other gateways, for comparison.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from fleet.routing.rules.health import OWN_WORK
from fleet.routing.rules.pools import PoolCounts
from fleet.routing.rules.ranking import Ranking
from fleet.routing.rules.routing import pick
from fleet.simulation.rules.pools import Job, PoolState, SimulatedFleet
from fleet.simulation.rules.producers import Producer
from fleet.simulation.rules.workload import Kind


class Binding(Protocol):
    """How tasks are assigned to slots."""

    def place(self, job: Job, now: float) -> PoolState | None:
        """The pool that starts the task now. None: the task waits."""

    def following(self, state: PoolState, now: float) -> Job | None:
        """The next task for a pool with a free slot, already counted there. None: none waits."""

    def waiting(self, agent_type: str) -> int:
        """The number of tasks of a type that wait for any pool."""


class LateBinding:
    """A free slot, or else the overflow queue of the agent type: see `submit.lua`.

    A pool's workers take tasks from the overflow queue of their own type first, then from those of
    the types that they serve as spillover. A pool gets tasks of another type only while none of its
    own type waits. While as many tasks wait as slots are free, a new task waits behind them.
    """

    gated = True

    def __init__(
        self, fleet: SimulatedFleet, producers: Sequence[Producer], kinds: Sequence[Kind]
    ) -> None:
        self.fleet = fleet
        self.producers = producers
        self.agent_types = [kind.request.agent_type for kind in kinds]
        self.overflow: dict[str, deque[Job]] = {name: deque() for name in self.agent_types}
        self.spillover = {name: self._spillover_pools(name) for name in self.overflow}
        self.served_queues = [self._queues_of(state) for state in fleet.states.values()]

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
        state = self.fleet.states[pool]
        self.fleet.give(state, 1, now)
        producer.took(job.kind, pool, now)
        return state

    def following(self, state: PoolState, now: float) -> Job | None:
        for queue in self.served_queues[state.place]:
            if queue and state.in_flight < state.open_slots(now):
                self.fleet.give(state, 1, now)
                return queue.popleft()
        return None

    def waiting(self, agent_type: str) -> int:
        return len(self.overflow.get(agent_type, ()))

    def _loads(self, agent_type: str, now: float) -> Mapping[str, PoolCounts]:
        """The exact counts. Spillover pools whose own tasks wait have no open slots."""
        loads = self.fleet.loads(now)
        closed = {
            state.pool.name: state.load(now)._replace(open_slots=0, health_state=OWN_WORK)
            for state in self.spillover[agent_type]
            if self.overflow.get(state.pool.agent_type)
        }
        return {**loads, **closed} if closed else loads

    def _spillover_pools(self, agent_type: str) -> list[PoolState]:
        return [s for s in self.fleet.states.values() if agent_type in s.pool.helps]

    def _queues_of(self, state: PoolState) -> list[deque[Job]]:
        served = (state.pool.agent_type, *sorted(state.pool.helps))
        return [self.overflow[name] for name in served if name in self.overflow]


class Push:
    """The best pool by the producer's snapshot, with its own queue, whether a slot is free or not.

    The producer does not know the tasks that it has sent since the snapshot.
    """

    gated = False

    def __init__(
        self, fleet: SimulatedFleet, producers: Sequence[Producer], kinds: Sequence[Kind]
    ) -> None:
        self.fleet = fleet
        self.producers = producers

    def place(self, job: Job, now: float) -> PoolState | None:
        producer = self.producers[job.task % len(self.producers)]
        pool = pick(producer.ranking(job.kind, now), producer.loads(now))
        assert pool is not None, "every kind has a pool that serves it: `simulate` has checked"
        state = self.fleet.states[pool]
        producer.took(job.kind, pool, now)
        begins = state.has_free_slot
        self.fleet.give(state, 1, now)
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
