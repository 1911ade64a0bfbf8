"""What a router knows of the pools: facts of a snapshot, and the same facts as columns.

A `PoolTable` is made once per snapshot. It sorts the pools into one `PoolGroup` for each
agent type and keeps their figures as arrays, so that a decision over thousands of pools
does array arithmetic and touches no pool one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidConfig
from fleet.routing.rules.scoring import BANDS, FloatArray, complexity_fit, response_term
from fleet.routing.rules.statistics import Estimate

# A thousand sentences of "serves another agent type" explain no more than these do.
NAMED_REJECTIONS = 16

IN = "in"
"""The standing of a pool that takes what it has slots for; see `fleet.routing.rules.health`."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """One pool as a snapshot saw it.

    `weight` is 1 to 10, `helps` the agent types it takes beside its own, `capacity` the sum
    of its live agents' slots, `success_rate` 0 to 1 over its last 100 tasks (1 before any),
    `response_seconds` the moving average of its response time (0 before any). `standing` says
    where it is in the circle of `fleet.routing.rules.health`, `open_slots` how many of its slots
    that opens (None: all), and `because` why. `by_request` has what is expected of it for each
    request type that it answered, `typical_seconds` is the geometric mean of its response times (0:
    as the moving average), `likely_success` what its outcomes let expect (None: the success rate).
    """

    name: str
    agent_type: str
    queue: str
    weight: int
    helps: frozenset[str]
    live_agents: int
    capacity: int
    in_flight: int
    success_rate: float = 1.0
    response_seconds: float = 0.0
    standing: str = IN
    because: str = ""
    open_slots: int | None = None
    by_request: Mapping[str, Estimate] = field(default_factory=dict)
    typical_seconds: float = 0.0
    likely_success: float | None = None

    @property
    def openings(self) -> int:
        """The slots that may be taken: those of the live agents, unless its health says less."""
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
        return self.agent_type == agent_type or agent_type in self.helps

    def expects(self, request_type: str) -> Estimate:
        """Success and response time to expect of a request type."""
        known = self.by_request.get(request_type)
        typical = self.typical_seconds or self.response_seconds
        likely = self.success_rate if self.likely_success is None else self.likely_success
        return known or Estimate(self.success_rate, self.response_seconds, typical, likely)


class Load(NamedTuple):
    """A pool's exact counts at the moment of a pick.

    `open_slots` is how many of its slots its health opens (None: all), `standing` where it is in
    the circle of `fleet.routing.rules.health`, and `because` why.
    """

    live_agents: int
    in_flight: int
    capacity: int
    open_slots: int | None = None
    standing: str = IN
    because: str = ""

    @property
    def openings(self) -> int:
        """The slots that may be taken."""
        return self.capacity if self.open_slots is None else self.open_slots


class Rejection(NamedTuple):
    """A pool that was passed over, and the reason as a phrase for people."""

    pool: str
    reason: str


class Expected(NamedTuple):
    """What is expected of each pool, a column each. `response` is the unweighted term."""

    success_rate: FloatArray
    likely_success: FloatArray
    typical_seconds: FloatArray
    response: FloatArray

    @classmethod
    def of(cls, estimates: Sequence[Estimate]) -> Expected:
        """The columns of these estimates."""
        return cls(
            _floats(each.success for each in estimates),
            _floats(each.likely_success for each in estimates),
            _floats(each.typical_seconds for each in estimates),
            response_term(_floats(each.response_seconds for each in estimates)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PoolGroup:
    """The pools that may serve one agent type, by name, and their figures as columns.

    `overall` is what to expect of any request, `by_request` of those whose outcomes are known.
    `fits` is the unweighted term, a column per complexity band, and `agent_type_of` the
    place in `agent_types` of each pool's own type. `rejected` names the first pools that may
    not serve the type, `unnamed` counts those beyond them.
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
        """Sort out the pools that may serve `agent_type`."""
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
            rejected=tuple(_stranger(pool, agent_type) for pool in others[:NAMED_REJECTIONS]),
            unnamed=max(0, len(others) - NAMED_REJECTIONS),
        )

    def expected(self, request_type: str) -> Expected:
        """What to expect of each pool for a request type."""
        return self.by_request.get(request_type, self.overall)


@dataclass(frozen=True, slots=True, eq=False)
class PoolTable:
    """A snapshot, ready for decisions. Make it with `PoolTable.of`, once per snapshot."""

    pools: tuple[PoolFacts, ...]
    groups: Mapping[str, PoolGroup]

    @classmethod
    def of(cls, pools: Iterable[PoolFacts]) -> PoolTable:
        """Lay out the facts. Raises `InvalidConfig` where two pools share a name."""
        facts = tuple(pools)
        _refuse_doubles(facts)
        types = {pool.agent_type for pool in facts}.union(*(pool.helps for pool in facts))
        return cls(facts, {agent_type: PoolGroup.of(facts, agent_type) for agent_type in types})

    def group(self, agent_type: str) -> PoolGroup:
        """The pools that may serve `agent_type`: an empty group where none does."""
        return self.groups.get(agent_type) or PoolGroup.of(self.pools, agent_type)

    def loads(self) -> dict[str, Load]:
        """The snapshot's own counts, for a pick that asks nobody for exact ones."""
        return {
            p.name: Load(
                p.live_agents, p.in_flight, p.capacity, p.open_slots, p.standing, p.because
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


def _stranger(pool: PoolFacts, agent_type: str) -> Rejection:
    return Rejection(pool.name, f"serves {pool.agent_type} and does not help {agent_type}")


def _refuse_doubles(pools: tuple[PoolFacts, ...]) -> None:
    seen: set[str] = set()
    for pool in pools:
        if pool.name in seen:
            raise InvalidConfig(f"two pools are named {pool.name}; give each pool its own name")
        seen.add(pool.name)
