"""Which pool gets a task, in two halves.

`rank` (`fleet.routing.rules.ranking`) runs in the caller's process on a snapshot that may be stale.
The atomic step in Redis adds the exact load to each rule and takes the best pool that has room.
`decide` is this second half in Python: it shows a decision of the atomic step with all its
numbers, and serves tests. `pick` gives the choice alone, for simulations.

The total, here and in Redis, in double precision and in this order of operations:

    total = base + per_task * in_flight + per_load * (in_flight / capacity)

Candidates are the pools with live agents > 0 and in_flight < the slots that their health opens. The
highest total wins, then the smaller load, then the name. So the load filters as well as ranks: a
full pool is no candidate, and a load is never clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, NamedTuple

from fleet.routing.rules.health import describe_health
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolTable, Rejection
from fleet.routing.rules.ranking import RULE_LIMIT, Ranking, Rule, rank
from fleet.routing.rules.scoring import expected_wait
from fleet.routing.rules.strategies import RouteRequest

__all__ = [
    "RULE_LIMIT",
    "Candidate",
    "PoolCounts",
    "Ranking",
    "Rejection",
    "RouteDecision",
    "RouteRequest",
    "Rule",
    "best_by_expected_wait",
    "decide",
    "pick",
    "rank",
]


class Candidate(NamedTuple):
    """A pool that could have taken the task, with its numbers.

    `terms` are the terms of the strategy by name, the load's own last; empty if the strategy uses
    the counts alone.
    """

    pool: str
    total: float
    terms: Mapping[str, float]
    in_flight: int
    capacity: int
    load: float


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """Where a task went and why. `pool` is None if it went to the overflow queue."""

    strategy: str
    pool: str | None
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejection, ...]
    omitted: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Every candidate's total, best first."""
        return {candidate.pool: candidate.total for candidate in self.candidates}

    @property
    def second(self) -> Candidate | None:
        """The best candidate that did not get the task; None if there is no other."""
        return next((each for each in self.candidates if each.pool != self.pool), None)

    def to_json(self) -> dict[str, Any]:
        """The decision for people and programs, each value under its name."""
        return {
            "strategy": self.strategy,
            "pool": self.pool,
            "candidates": [candidate._asdict() for candidate in self.candidates],
            "rejected": [rejection._asdict() for rejection in self.rejected],
            "omitted": self.omitted,
            "weights": dict(self.weights),
        }


def decide(
    ranking: Ranking, counts: Mapping[str, PoolCounts], chosen: str | EllipsisType | None = ...
) -> RouteDecision:
    """Add the exact load to a ranking and pick, as the atomic step does.

    A pool without `counts` is taken to be dead. To show a stored decision, pass `chosen`, the pick
    of the atomic step from these counts: a pool, or None for the overflow queue.
    """
    candidates, rejected = [], list(ranking.rejected)
    for rule in ranking.rules:
        pool_counts = counts.get(rule.pool)
        reason = _why_not(pool_counts)
        if pool_counts is None or reason:
            rejected.append(Rejection(rule.pool, reason))
        else:
            candidates.append(_candidate(ranking, rule, pool_counts))
    candidates.sort(key=lambda each: (-each.total, each.load, each.pool))
    best = candidates[0].pool if candidates else None
    pool = best if isinstance(chosen, EllipsisType) else chosen
    return RouteDecision(
        ranking.strategy,
        pool,
        tuple(candidates),
        tuple(rejected),
        ranking.omitted,
        ranking.weights,
    )


def pick(ranking: Ranking, counts: Mapping[str, PoolCounts]) -> str | None:
    """The pool that `decide` picks, in a fifth of the time: it gives no reasons."""
    best: tuple[float, float, str] | None = None
    for rule in ranking.rules:
        pool = counts.get(rule.pool)
        if pool is None or pool.live_agents <= 0 or pool.in_flight >= pool.openings:
            continue
        share = pool.in_flight / pool.capacity
        order = (-_total(rule, pool.in_flight, share), share, rule.pool)
        if best is None or order < best:
            best = order
    return best[2] if best else None


def best_by_expected_wait(
    table: PoolTable, agent_type: str, sent_since: Mapping[str, int]
) -> str | None:
    """The live pool with the shortest expected wait, for publishers without the atomic step.

    `sent_since` counts the publisher's own sends since the snapshot, by pool. A pool without a
    response time yet counts as quick as the quickest known one: with 0 seconds it would get every
    task until its first answer. Returns None if no pool is alive.
    """
    live = [p for p in table.group(agent_type).pools if p.live_agents > 0 and p.openings > 0]
    typical = {pool.name: pool.expects("").typical_seconds for pool in live}
    quickest = min((seconds for seconds in typical.values() if seconds > 0), default=1.0)

    def wait(pool: PoolFacts) -> tuple[float, float, str]:
        sent = sent_since.get(pool.name, 0)
        seconds = typical[pool.name] or quickest
        return expected_wait(pool.in_flight, sent, pool.openings, seconds), pool.load, pool.name

    return min(live, key=wait).name if live else None


def _why_not(pool: PoolCounts | None) -> str:
    """Why a pool cannot take a task; empty if it can."""
    if pool is None or pool.live_agents <= 0:
        return "no live agent"
    if pool.in_flight < pool.openings:
        return ""
    if pool.openings < pool.capacity:
        return describe_health(pool.health_state, pool.reason, pool.openings)
    return f"full: {pool.in_flight} of {pool.capacity} slots taken"


def _candidate(ranking: Ranking, rule: Rule, pool: PoolCounts) -> Candidate:
    load = pool.in_flight / pool.capacity
    total = _total(rule, pool.in_flight, load)
    terms = dict(zip(ranking.terms, rule.terms or (), strict=False))
    if terms:
        # The base holds the constant part of the load's term, such as its weight.
        for_load = rule.per_task * pool.in_flight + rule.per_load * load
        terms["load"] = ranking.load_weight + for_load
    return Candidate(rule.pool, total, terms, pool.in_flight, pool.capacity, load)


def _total(rule: Rule, in_flight: int, share: float) -> float:
    return rule.base + rule.per_task * in_flight + rule.per_load * share
