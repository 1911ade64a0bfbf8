"""The producers of a simulation. Each plans from its own snapshot, as the planner does.

A ranking is cached for all tasks of a kind until the snapshot changes, unless the strategy needs
one for each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fleet.routing.rules.pools import PoolCounts, PoolTable
from fleet.routing.rules.ranking import Ranking, rank
from fleet.routing.rules.scoring import REFERENCE_WEIGHTS, ScoreWeights
from fleet.routing.rules.strategies import NO_TURNS, Strategy, advance
from fleet.simulation.rules.pools import SimulatedFleet
from fleet.simulation.rules.workload import Kind


class Way(NamedTuple):
    """How tasks of a kind are routed."""

    strategy: str
    weights: ScoreWeights = REFERENCE_WEIGHTS


@dataclass(frozen=True, slots=True)
class Planning:
    """What all producers share: a way for each kind, and the maximum snapshot age in seconds."""

    kinds: Sequence[Kind]
    ways: Sequence[Way]
    age: float
    gated: bool
    rng: np.random.Generator
    strategies: Mapping[str, Strategy]


class Producer:
    """One process that submits tasks."""

    def __init__(self, fleet: SimulatedFleet, planning: Planning) -> None:
        self.fleet = fleet
        self.planning = planning
        self.table: PoolTable | None = None
        self.taken_at = 0.0
        self.rankings: dict[int, Ranking] = {}
        self.turns = NO_TURNS
        self._loads: dict[str, PoolCounts] | None = None

    def ranking(self, kind: int, now: float) -> Ranking:
        """The ranking for a task of this kind, from a snapshot below the maximum age."""
        table = self._snapshot(now)
        ranking = self.rankings.get(kind)
        if ranking is None:
            planning, way = self.planning, self.planning.ways[kind]
            ranking = rank(
                way.strategy,
                planning.kinds[kind].request,
                table,
                self.turns,
                weights=way.weights,
                rng=planning.rng,
                strategies=planning.strategies,
            )
            if not planning.strategies[way.strategy].varies:
                self.rankings[kind] = ranking
        return ranking

    def loads(self, now: float) -> Mapping[str, PoolCounts]:
        """The counts in the snapshot, for a choice without exact counts."""
        if self._loads is None:
            self._loads = self._snapshot(now).counts()
        return self._loads

    def took(self, kind: int, pool: str, now: float) -> None:
        """Record which pool got the task, for round-robin strategies."""
        planning = self.planning
        self.turns = advance(
            self.turns,
            planning.ways[kind].strategy,
            self._snapshot(now),
            planning.kinds[kind].request.agent_type,
            pool,
            planning.strategies,
        )

    def _snapshot(self, now: float) -> PoolTable:
        """The snapshot. A new one is taken if the last is too old."""
        if self.table is None or (now > self.taken_at and now - self.taken_at >= self.planning.age):
            self.table = self.fleet.table(now, self.planning.gated)
            self.taken_at = now
            self.rankings.clear()
            self._loads = None
        return self.table
