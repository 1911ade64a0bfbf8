"""The strategies, each a linear rule that Redis can evaluate for every pool.

    total = base + per_task * in_flight + per_load * (in_flight / capacity)

The pool with the highest total wins, among the pools with a free slot. The two round-robin
strategies express their order in the base. The producer keeps the turn, passes it in as a value,
and moves it on (`advance`) only for the pool that got the task.

A package adds its own strategy with an entry point of the group `fleet.strategies` that names a
`Strategy`. Its rule gets the same arguments as the rules below.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidRequest
from fleet.routing.rules.pools import PoolGroup, PoolTable
from fleet.routing.rules.scoring import REFERENCE_WEIGHTS, FloatArray, ScoreWeights, complexity_band
from fleet.settings.names import SILENT_COMPATIBILITY

CROWDING = 0.1
"""`soonest` prefers the emptier of two pools if their expected times differ by under a tenth."""
BEHIND = 1e6
"""Ranks a pool behind all others, as the last choice of a full fleet."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """The request to route. `complexity` is 0..1, `compatibility` maps agent types to 0..1."""

    request_type: str
    agent_type: str
    complexity: float = 0.5
    compatibility: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """The state of a producer's round robin over the pools of one agent type.

    `last` is the pool that was picked last, `credits` the current weights of smooth weighted round
    robin, by pool.
    """

    last: str = ""
    credits: Mapping[str, int] = field(default_factory=dict)


Turns = Mapping[str, Turn]
NO_TURNS: Turns = {}
FIRST_TURN = Turn()


class StrategyContext(NamedTuple):
    """The inputs of a strategy beside the pools and the request.

    `rng` is given only to strategies that choose at random.
    """

    turn: Turn = FIRST_TURN
    weights: ScoreWeights = REFERENCE_WEIGHTS
    rng: np.random.Generator | None = None


class Linear(NamedTuple):
    """The result of a strategy: the factors of the rule above, each a column or one number.

    `terms` are columns to show with the decision, by name, such as the weighted terms that add up
    to the base. The load's own term is `load_weight` plus the rule's addition for the load.
    `weights` are the weights of the terms.
    """

    base: FloatArray
    per_task: float = 0.0
    per_load: float | FloatArray = 0.0
    terms: Mapping[str, FloatArray] | None = None
    load_weight: float = 0.0
    weights: Mapping[str, float] = {}


StrategyRule = Callable[[PoolGroup, RouteRequest, StrategyContext], Linear]
Advance = Callable[[Turn, PoolGroup, str], Turn]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to pick a pool. With `varies` each task needs its own ranking. `advance` gives the turn
    after a pick, for strategies that take turns."""

    rule: StrategyRule
    varies: bool = False
    advance: Advance | None = None


def ai_optimized(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The highest weighted sum of success, response, load, compatibility and complexity fit.

    The load's term, w (1 - load), splits into w and -w load.
    """
    weights = given.weights
    expected = group.expected(request.request_type)
    terms = {
        "success": weights.success * expected.success_rate,
        "response": weights.response * expected.response,
        "compatibility": weights.compatibility * _compatibility(group, request.compatibility),
        "complexity_fit": weights.complexity_fit * group.fits[complexity_band(request.complexity)],
    }
    slow = terms["success"] + terms["response"] + terms["compatibility"] + terms["complexity_fit"]
    return Linear(
        slow + weights.load, 0.0, -weights.load, terms, weights.load, weights._asdict()
    )


def soonest(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The pool with the shortest expected time to a good answer, the emptier of near equals.

        total = - seconds / (success x compatibility x (0.5 + 0.5 fit)) x (1 + 0.1 load)

    A pool with a free slot starts a task at once, so its expected time is its response time, once
    more for each failed answer. Fastest first is asymptotically optimal for the mean time in a
    work-conserving system: M. Armony, Dynamic routing in large-scale service systems with
    heterogeneous servers, Queueing Systems 51 (2005). A pool without a response time yet counts as
    quick as the quickest known one.
    """
    expected = group.expected(request.request_type)
    seconds = _known_seconds(expected.typical_seconds)
    compatibility = _compatibility(group, request.compatibility)
    fit = group.fits[complexity_band(request.complexity)]
    good = np.maximum(expected.likely_success * compatibility * (0.5 + 0.5 * fit), 1e-6)
    time = seconds / good
    terms = {
        "seconds": seconds,
        "success": expected.likely_success,
        "compatibility": compatibility,
        "complexity_fit": fit,
    }
    return Linear(-time, 0.0, -CROWDING * time, terms)


def expected_wait(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The shortest (in-flight + 1) x response time / capacity, in seconds."""
    seconds = _known_seconds(group.expected(request.request_type).typical_seconds)
    return Linear(-seconds / np.maximum(group.capacity, 1.0), 0.0, -seconds)


def power_of_two(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The less loaded of two random pools; the other pools if both are full.

    M. Mitzenmacher, The power of two choices in randomized load balancing (1996). Raises
    `InvalidRequest` without an `rng`.
    """
    if given.rng is None:
        raise InvalidRequest("power_of_two chooses at random: pass an rng")
    base = np.full(len(group.pools), -BEHIND)
    with_room = np.flatnonzero(group.has_room)
    drawn = with_room if len(with_room) >= 2 else np.arange(len(base))
    base[given.rng.choice(drawn, size=min(2, len(drawn)), replace=False)] = 0.0
    return Linear(base, per_load=-1.0)


def least_connections(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The fewest tasks in flight."""
    return Linear(np.zeros(len(group.pools)), per_task=-1.0)


def least_loaded(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The smallest share of slots taken."""
    return Linear(np.zeros(len(group.pools)), per_load=-1.0)


def round_robin(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """The next pool by name after the one that was picked last."""
    count = len(group.pools)
    start = bisect_right(group.names, given.turn.last)
    return Linear(0.0 - (np.arange(count, dtype=np.float64) - start) % max(count, 1))


def weighted_round_robin(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
    """In proportion to the pools' weights, spread evenly: the pool with the most credit first."""
    order = _by_credit(group, _credits(group, given.turn))
    base = np.empty(len(order))
    base[order] = 0.0 - np.arange(len(order))
    return Linear(base)


def _next_by_name(turn: Turn, group: PoolGroup, picked: str) -> Turn:
    return Turn(picked, turn.credits)


def _pay(turn: Turn, group: PoolGroup, picked: str) -> Turn:
    """Smooth weighted round robin as in nginx: each pool earns its weight, the winner pays the sum.

    The pools ahead of the winner had no free slot, or they would have won. They do not take part,
    as nginx skips a peer at its limit: otherwise they would save up for a burst.
    """
    if picked not in group.names:
        return turn
    winner = group.names.index(picked)
    credits = _credits(group, turn)
    order = _by_credit(group, credits)
    taking_part = order[np.flatnonzero(order == winner)[0] :]
    credits[taking_part] += group.weight[taking_part]
    credits[winner] -= group.weight[taking_part].sum()
    return Turn(turn.last, dict(zip(group.names, credits.astype(int).tolist(), strict=True)))


STRATEGIES: Mapping[str, Strategy] = {
    "ai_optimized": Strategy(ai_optimized),
    "expected_wait": Strategy(expected_wait),
    "least_connections": Strategy(least_connections),
    "least_loaded": Strategy(least_loaded),
    "power_of_two": Strategy(power_of_two, varies=True),
    "round_robin": Strategy(round_robin, varies=True, advance=_next_by_name),
    "soonest": Strategy(soonest),
    "weighted_round_robin": Strategy(weighted_round_robin, varies=True, advance=_pay),
}


def advance(
    turns: Turns,
    strategy: str,
    table: PoolTable,
    agent_type: str,
    pool: str,
    strategies: Mapping[str, Strategy] = STRATEGIES,
) -> Turns:
    """The turns after `pool` got a task of `agent_type`; unchanged for strategies without turns.

    `table` is the snapshot of the ranking. A task that went to the overflow queue takes no turn: do
    not call this for it.
    """
    next_turn = strategies[strategy].advance
    if next_turn is None:
        return turns
    turn = turns.get(agent_type, FIRST_TURN)
    return {**turns, agent_type: next_turn(turn, table.group(agent_type), pool)}


def _known_seconds(seconds: FloatArray) -> FloatArray:
    """Response times, with the quickest one for pools without any; 1 s if no pool has one."""
    known = seconds[seconds > 0.0]
    quickest = known.min() if len(known) else 1.0
    return np.where(seconds > 0.0, seconds, quickest)


def _compatibility(group: PoolGroup, compatibility: Mapping[str, float]) -> FloatArray:
    by_type = [compatibility.get(name, SILENT_COMPATIBILITY) for name in group.agent_types]
    return np.array(by_type, dtype=np.float64)[group.agent_type_of]


def _credits(group: PoolGroup, turn: Turn) -> FloatArray:
    return np.array([turn.credits.get(name, 0) for name in group.names], dtype=np.float64)


def _by_credit(group: PoolGroup, credits: FloatArray) -> npt.NDArray[np.intp]:
    return np.argsort(-(credits + group.weight), kind="stable")
