"""Which pool gets a task, in two halves.

`rank` runs in the caller's process on a snapshot that may be stale: it turns the slow
terms of the strategy into one `Rule` per pool. The atomic step in Redis adds the exact
load to each rule and takes the best pool that has room. `decide` is that second half in
Python, for dry runs, for tests, and to show a stored decision with all its numbers.

A pick, here and in Redis, in double precision and in this order of operations:

    total = base + per_task * in_flight + per_load * (in_flight / capacity)

among the pools with live agents > 0 and in_flight < capacity. The highest total wins, then
the smaller load, then the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from types import EllipsisType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fleet.core.pools import Load, PoolFacts, PoolGroup, PoolTable, Rejection
from fleet.core.scoring import REFERENCE_WEIGHTS, Terms, Weights, expected_wait
from fleet.core.strategies import (
    FIRST_TURN,
    NO_TURNS,
    STRATEGIES,
    Linear,
    RouteRequest,
    SlowTerms,
    Turns,
)
from fleet.errors import InvalidRequest

__all__ = [
    "Candidate",
    "Load",
    "Ranking",
    "Rejection",
    "RouteDecision",
    "RouteRequest",
    "Rule",
    "Terms",
    "best_by_expected_wait",
    "decide",
    "rank",
]

# So many rules go to the atomic step. Where there are more pools, the rest cannot win: a
# task for which none of these has room waits in the overflow queue, which every pool reads.
RULE_LIMIT = 16


class Rule(NamedTuple):
    """How the atomic step scores one pool; see the head of this module.

    `terms` are the weighted values of `SlowTerms`, in that order, where the strategy has them.
    """

    pool: str
    base: float
    per_task: float
    per_load: float
    terms: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first half of a decision: rules, best slow terms first, and who may not serve at all.

    It can be stored, read back and decided again. Pools that were dead or full in the
    snapshot have rules too, since only the atomic step knows. `omitted` counts the pools
    that stand in neither list, for want of space.
    """

    strategy: str
    rules: tuple[Rule, ...]
    rejected: tuple[Rejection, ...]
    omitted: int = 0

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`. A rule is `[pool, base, per_task, per_load, terms or null]`."""
        return {
            "strategy": self.strategy,
            "rules": self.rules,
            "rejected": self.rejected,
            "omitted": self.omitted,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also after a round trip through text."""
        rules = tuple(_stored_rule(*each) for each in stored["rules"])
        rejected = tuple(Rejection(*pair) for pair in stored["rejected"])
        return cls(stored["strategy"], rules, rejected, stored["omitted"])


class Candidate(NamedTuple):
    """A pool that could have taken the task, with its numbers."""

    pool: str
    total: float
    terms: Terms | None
    in_flight: int
    capacity: int
    load: float


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Where a task went and why. `pool` is None where it went to the overflow queue."""

    strategy: str
    pool: str | None
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    omitted: int = 0

    @property
    def scores(self) -> dict[str, float]:
        """Every candidate's total, best first."""
        return {candidate.pool: candidate.total for candidate in self.candidates}

    def to_json(self) -> dict[str, Any]:
        """For people and programs that read decisions: everything under its name."""
        return {
            "strategy": self.strategy,
            "pool": self.pool,
            "candidates": [
                {**c._asdict(), "terms": c.terms._asdict() if c.terms else None}
                for c in self.candidates
            ],
            "rejected": [rejection._asdict() for rejection in self.rejected],
            "omitted": self.omitted,
        }


def rank(
    strategy: str,
    request: RouteRequest,
    table: PoolTable,
    turns: Turns = NO_TURNS,
    *,
    weights: Weights = REFERENCE_WEIGHTS,
    limit: int = RULE_LIMIT,
) -> Ranking:
    """Rank the pools that may serve the request by everything but their exact load.

    Of more than `limit` pools, those that would win by the snapshot's own counts are kept.
    Raises `InvalidRequest` for an unknown strategy or a complexity outside 0..1.
    """
    if strategy not in STRATEGIES:
        known = ", ".join(sorted(STRATEGIES))
        raise InvalidRequest(f"no strategy is called {strategy!r}; use one of: {known}")
    if not 0.0 <= request.complexity <= 1.0:
        raise InvalidRequest(f"complexity is {request.complexity!r}; give a number from 0 to 1")
    group = table.group(request.agent_type)
    turn = turns.get(request.agent_type, FIRST_TURN)
    linear = STRATEGIES[strategy](group, request, turn, weights)
    rows = _shortlist(group, linear, limit)
    omitted = len(group.pools) - len(rows) + group.unnamed
    return Ranking(strategy, tuple(_rules(group, linear, rows)), group.rejected, omitted)


def decide(
    ranking: Ranking, loads: Mapping[str, Load], chosen: str | EllipsisType | None = ...
) -> RouteDecision:
    """Add exact loads to a ranking and pick, as the atomic step does.

    A pool that `loads` does not know counts as dead. To show a stored decision, give
    `chosen`, what the atomic step picked from these loads: a pool, or None for overflow.
    """
    candidates, rejected = [], list(ranking.rejected)
    for rule in ranking.rules:
        load = loads.get(rule.pool)
        if load is None or load.live_agents <= 0:
            rejected.append(Rejection(rule.pool, "no live agent"))
        elif load.in_flight >= load.capacity:
            full = f"full: {load.in_flight} of {load.capacity} slots taken"
            rejected.append(Rejection(rule.pool, full))
        else:
            candidates.append(_candidate(rule, load))
    candidates.sort(key=lambda each: (-each.total, each.load, each.pool))
    best = candidates[0].pool if candidates else None
    pool = best if isinstance(chosen, EllipsisType) else chosen
    return RouteDecision(
        ranking.strategy, pool, tuple(candidates), tuple(rejected), ranking.omitted
    )


def best_by_expected_wait(
    table: PoolTable, agent_type: str, sent_since: Mapping[str, int]
) -> str | None:
    """The live pool with the shortest expected wait, for publishers without the atomic step.

    `sent_since` counts the publisher's own sends since the snapshot, by pool. A pool that
    has no response time yet is taken to be as quick as the quickest that has one: taken at
    its 0 seconds it would draw every task until its first answer. None where no pool lives.
    """
    live = [p for p in table.group(agent_type).pools if p.live_agents > 0 and p.capacity > 0]
    quickest = min((p.response_seconds for p in live if p.response_seconds > 0), default=1.0)

    def wait(pool: PoolFacts) -> tuple[float, float, str]:
        sent = sent_since.get(pool.name, 0)
        seconds = pool.response_seconds or quickest
        return expected_wait(pool.in_flight, sent, pool.capacity, seconds), pool.load, pool.name

    return min(live, key=wait).name if live else None


def _candidate(rule: Rule, load: Load) -> Candidate:
    share = load.in_flight / load.capacity
    total = rule.base + rule.per_task * load.in_flight + rule.per_load * share
    # The base holds the constant part of the load term, its weight, which is -per_load.
    terms = _completed(rule.terms, -rule.per_load * (1.0 - share)) if rule.terms else None
    return Candidate(rule.pool, total, terms, load.in_flight, load.capacity, share)


def _completed(slow: tuple[float, ...], load: float) -> Terms:
    success, response, compatibility, fit = slow
    return Terms(success, response, load, compatibility, fit)


def _stored_rule(
    pool: str, base: float, per_task: float, per_load: float, terms: list[float] | None
) -> Rule:
    return Rule(pool, base, per_task, per_load, tuple(terms) if terms else None)


def _shortlist(group: PoolGroup, linear: Linear, limit: int) -> npt.NDArray[np.intp]:
    """The rows of the `limit` best pools, best slow terms first.

    Rows are in the order of names and the sort is stable, so equals come by name.
    """
    if len(group.pools) <= limit:
        return (-linear.base).argsort(kind="stable")
    rows = _best_now(group, linear, limit)
    return rows[(-linear.base[rows]).argsort(kind="stable")]


def _best_now(group: PoolGroup, linear: Linear, limit: int) -> npt.NDArray[np.intp]:
    """The rows of the `limit` pools that come first by the snapshot's counts, in row order."""
    total = linear.base + linear.per_task * group.in_flight + linear.per_load * group.load
    total[~group.has_room] = -np.inf
    bar = np.partition(total, -limit)[-limit]
    rows = np.flatnonzero(total >= bar)
    best = rows[np.lexsort((group.load[rows], -total[rows]))[:limit]]
    return np.sort(best)


def _rules(group: PoolGroup, linear: Linear, rows: npt.NDArray[np.intp]) -> Iterator[Rule]:
    names = [group.names[row] for row in rows.tolist()]
    terms = _terms(linear.terms, rows) if linear.terms else repeat(None)
    columns = zip(
        names,
        linear.base[rows].tolist(),
        repeat(linear.per_task),
        repeat(linear.per_load),
        terms,
        strict=False,  # the constants have no end
    )
    return map(Rule._make, columns)


def _terms(terms: SlowTerms, rows: npt.NDArray[np.intp]) -> Iterator[tuple[float, ...]]:
    return zip(*(column[rows].tolist() for column in terms), strict=True)
