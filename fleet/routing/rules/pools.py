"""What a router knows about the pools: the facts of a snapshot, and the same facts as columns.

A `PoolTable` is made once per snapshot. It sorts the pools into one `PoolGroup` for each agent
type and keeps their figures as arrays. So a decision over thousands of pools is array arithmetic,
without a loop over the pools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidConfig
from fleet.routing.rules.scoring import BANDS, FloatArray, complexity_fit, response_term
from fleet.routing.rules.statistics import NO_OUTCOMES, Estimate, Statistic

# A thousand times "serves another agent type" explains no more than 16 times.
NAMED_REJECTIONS = 16

IN = "in"
"""The health state of a pool whose slots are all open; see `fleet.routing.rules.health`."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool in a snapshot.

    `weight` is 1 to 10. `spillover` are the agent types that it takes beside its own. `capacity` is
    the sum of its live agents' slots. `success_rate` is 0 to 1 over its last 100 tasks (1 before
    any). `response_seconds` is the moving average of its response time (0 before any).
    `health_state` is its state in `fleet.routing.rules.health`, `open_slots` how many of its slots
    this state opens (None: all), and `reason` why it is in that state. `by_request` has an estimate
    for each request type that it answered. `typical_seconds` is the geometric mean of its response
    times (0: use the moving average). `likely_success` is the success to expect from its outcomes
    (None: use the success rate).
    """

    name: str
    agent_type: str
    queue: str
    weight: int
    spillover: frozenset[str]
    live_agents: int
    capacity: int
    in_flight: int
    success_rate: float = 1.0
    response_seconds: float = 0.0
    health_state: str = IN
    reason: str = ""
    open_slots: int | None = None
    by_request: Mapping[str, Estimate] = field(default_factory=dict)
    typical_seconds: float = 0.0
    likely_success: float | None = None

    @property
    def openings(self) -> int:
        """How many slots may be taken: those of the live agents, or fewer if its health says so."""
        return self.capacity if self.open_slots is None else self.open_slots

    @property
    def load(self) -> float:
        """In-flight tasks over capacity; 1 where there is no capacity."""
        return self.in_flight / self.capacity if self.capacity else 1.0

    @property
    def has_room(self) -> bool:
        """Whether an agent is alive and a slot is free."""
        return self.live_agents > 0 and self.in_flight < self.openings

    def serves(self, agent_type: str) -> bool:
        """Whether tasks of this agent type may run here."""
        return self.agent_type == agent_type or agent_type in self.spillover

    def expects(self, request_type: str) -> Estimate:
        """The success and response time to expect for a request type."""
        known = self.by_request.get(request_type)
        typical = self.typical_seconds or self.response_seconds
        likely = self.success_rate if self.likely_success is None else self.likely_success
        return known or Estimate(self.success_rate, self.response_seconds, typical, likely)


class PoolCounts(NamedTuple):
    """The exact counts of one pool at one moment, its health and its statistics.

    `open_slots` is how many of its slots its health opens (None: all), `health_state` its state in
    `fleet.routing.rules.health`, and `reason` why it is in that state. `by_request` has the
    requested types that have outcomes.
    """

    live_agents: int
    in_flight: int
    capacity: int
    open_slots: int | None = None
    health_state: str = IN
    reason: str = ""
    overall: Statistic = NO_OUTCOMES
    by_request: Mapping[str, Statistic] = MappingProxyType({})

    @property
    def openings(self) -> int:
        """How many slots may be taken."""
        return self.capacity if self.open_slots is None else self.open_slots


class Rejection(NamedTuple):
    """A pool that was not considered, and the reason as a phrase for people."""

    pool: str
    reason: str


class Expected(NamedTuple):
    """The estimates of all pools, one column for each figure. `response` is the unweighted term."""

    success_rate: FloatArray
    likely_success: FloatArray
    typical_seconds: FloatArray
    response: FloatArray

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> Expected:
        """The columns for these estimates."""
        return cls(
            _floats(each.success for each in estimates),
            _floats(each.likely_success for each in estimates),
            _floats(each.typical_seconds for each in estimates),
            response_term(_floats(each.response_seconds for each in estimates)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PoolGroup:
    """The pools that may serve one agent type, by name, and their figures as columns.

    `overall` is the estimate for any request, `by_request` for request types with known outcomes.
    `fits` is the unweighted term, one column per complexity band. `agent_type_of` is the index in
    `agent_types` of each pool's own type. `rejected` names the first pools that may not serve the
    type, `unnamed` counts the others.
    """

    pools: tuple[PoolFacts, ...]
    names: tuple[str, ...]
    overall: Expected
    by_request: Mapping[str, Expected]
    capacity: FloatArray
    fits: tuple[FloatArray, ...]
    weight: FloatArray
    in_flight: FloatArray
    load: FloatArray
    has_room: npt.NDArray[np.bool_]
    agent_types: tuple[str, ...]
    agent_type_of: npt.NDArray[np.intp]
    rejected: tuple[Rejection, ...]
    unnamed: int

    @classmethod
    def of(cls, pools: Iterable[PoolFacts], agent_type: str) -> PoolGroup:
        """Separate the pools that may serve `agent_type` from the others."""
        by_name = sorted(pools, key=lambda pool: pool.name)
        members = [pool for pool in by_name if pool.serves(agent_type)]
        others = [pool for pool in by_name if not pool.serves(agent_type)]
        types = tuple(sorted({pool.agent_type for pool in members}))
        weight = _floats(pool.weight for pool in members)
        return cls(
            pools=tuple(members),
            names=tuple(pool.name for pool in members),
            overall=Expected.of([pool.expects("") for pool in members]),
            by_request=_by_request(members),
            capacity=_floats(pool.capacity for pool in members),
            fits=tuple(complexity_fit(band, weight) for band in BANDS),
            weight=weight,
            in_flight=_floats(pool.in_flight for pool in members),
            load=_floats(pool.load for pool in members),
            has_room=np.array([pool.has_room for pool in members], dtype=np.bool_),
            agent_types=types,
            agent_type_of=np.array([types.index(p.agent_type) for p in members], dtype=np.intp),
            rejected=tuple(_serves_others(pool, agent_type) for pool in others[:NAMED_REJECTIONS]),
            unnamed=max(0, len(others) - NAMED_REJECTIONS),
        )

    def expected(self, request_type: str) -> Expected:
        """The estimates of each pool for a request type."""
        return self.by_request.get(request_type, self.overall)


@dataclass(frozen=True, slots=True, eq=False)
class PoolTable:
    """A snapshot prepared for decisions. Make it with `PoolTable.of`, once per snapshot."""

    pools: tuple[PoolFacts, ...]
    groups: Mapping[str, PoolGroup]

    @classmethod
    def of(cls, pools: Iterable[PoolFacts]) -> PoolTable:
        """Make the table. Raises `InvalidConfig` if two pools have the same name."""
        facts = tuple(pools)
        _refuse_duplicates(facts)
        types = {pool.agent_type for pool in facts}.union(*(pool.spillover for pool in facts))
        return cls(facts, {agent_type: PoolGroup.of(facts, agent_type) for agent_type in types})

    def group(self, agent_type: str) -> PoolGroup:
        """The pools that may serve `agent_type`; an empty group if no pool does."""
        return self.groups.get(agent_type) or PoolGroup.of(self.pools, agent_type)

    def counts(self) -> dict[str, PoolCounts]:
        """The snapshot's own counts, for a pick without a question to Redis."""
        return {
            p.name: PoolCounts(
                p.live_agents, p.in_flight, p.capacity, p.open_slots, p.health_state, p.reason
            )
            for p in self.pools
        }


def _floats(values: Iterable[Any]) -> FloatArray:
    return np.fromiter(values, dtype=np.float64)


def _by_request(members: Sequence[PoolFacts]) -> dict[str, Expected]:
    known: set[str] = set()
    for pool in members:
        known.update(pool.by_request)
    return {
        request_type: Expected.of([pool.expects(request_type) for pool in members])
        for request_type in known
    }


def _serves_others(pool: PoolFacts, agent_type: str) -> Rejection:
    return Rejection(pool.name, f"serves {pool.agent_type} and does not help {agent_type}")


def _refuse_duplicates(pools: tuple[PoolFacts, ...]) -> None:
    seen: set[str] = set()
    for pool in pools:
        if pool.name in seen:
            raise InvalidConfig(f"two pools are named {pool.name}; give each pool its own name")
        seen.add(pool.name)
