"""The ways to pick a pool, each as a linear rule that Redis can evaluate per pool.

    total = base + per_task * in_flight + per_load * (in_flight / capacity)

The highest total among the pools with room wins. The two in turn express their order in
the base; whose turn it is belongs to the producer, comes in as a value, and moves on
(`advance`) only for the pool that really got the task.

A package adds a strategy of its own as an entry point of the group `fleet.strategies` that
names a `Strategy`; its rule gets the same arguments as those below.
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
from fleet.routing.rules.scoring import REFERENCE_WEIGHTS, FloatArray, Weights, complexity_band
from fleet.settings.names import SILENT_COMPATIBILITY

CROWDING = 0.1
"""`soonest` prefers the emptier of two pools whose expected times are within a tenth."""
BEHIND = 1e6
"""Puts a pool behind all others, and leaves it as the last resort of a full fleet."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What is to be routed. `complexity` is 0..1, `compatibility` agent type -> 0..1."""

    request_type: str
    agent_type: str
    complexity: float = 0.5
    compatibility: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a producer's rotation over the pools of one agent type stands.

    `last` is the pool that was picked last, `credits` what smooth weighted round robin
    owes to each pool.
    """

    last: str = ""
    credits: Mapping[str, int] = field(default_factory=dict)


Turns = Mapping[str, Turn]
NO_TURNS: Turns = {}
FIRST_TURN = Turn()


class Given(NamedTuple):
    """What a strategy may go by beside the pools and the request.

    `rng` is there for strategies that draw lots; those alone are handed one.
    """

    turn: Turn = FIRST_TURN
    weights: Weights = REFERENCE_WEIGHTS
    rng: np.random.Generator | None = None


class Linear(NamedTuple):
    """A strategy's answer: the rule above, a column or one number for all pools each.

    `terms` are columns to show with the decision, by name, such as the weighted terms whose
    sum is the base. The load's own term is `load_weight` more than what the rule adds for it.
    `weights` are those that the terms were weighed with.
    """

    base: FloatArray
    per_task: float = 0.0
    per_load: float | FloatArray = 0.0
    terms: Mapping[str, FloatArray] | None = None
    load_weight: float = 0.0
    weights: Mapping[str, float] = {}


Rule = Callable[[PoolGroup, RouteRequest, Given], Linear]
Advance = Callable[[Turn, PoolGroup, str], Turn]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to pick a pool. With `varies` each task needs a ranking of its own; `advance`
    gives the turn after a pool was picked, where turns are taken."""

    rule: Rule
    varies: bool = False
    advance: Advance | None = None


def ai_optimized(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
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


def soonest(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The pool that is expected to bring a good answer soonest, the emptier of near equals.

        total = - seconds / (success x compatibility x (0.5 + 0.5 fit)) x (1 + 0.1 load)

    A pool with room starts a task at once, so its expected time is its response time, and
    that again for each answer that fails. Fastest first is asymptotically optimal for the mean
    time in a work-conserving system: M. Armony, Dynamic routing in large-scale service
    systems with heterogeneous servers, Queueing Systems 51 (2005). A pool that has no response
    time yet is taken to be as quick as the quickest that has one.
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


def expected_wait(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The shortest (in-flight + 1) x response time / capacity, in seconds."""
    seconds = _known_seconds(group.expected(request.request_type).typical_seconds)
    return Linear(-seconds / np.maximum(group.capacity, 1.0), 0.0, -seconds)


def power_of_two(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The less loaded of two pools drawn by lot; the others where both are full.

    M. Mitzenmacher, The power of two choices in randomized load balancing (1996). Raises
    `InvalidRequest` without an `rng`.
    """
    if given.rng is None:
        raise InvalidRequest("power_of_two draws lots: hand in an rng")
    base = np.full(len(group.pools), -BEHIND)
    with_room = np.flatnonzero(group.has_room)
    drawn = with_room if len(with_room) >= 2 else np.arange(len(base))
    base[given.rng.choice(drawn, size=min(2, len(drawn)), replace=False)] = 0.0
    return Linear(base, per_load=-1.0)


def least_connections(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The fewest tasks in flight."""
    return Linear(np.zeros(len(group.pools)), per_task=-1.0)


def least_loaded(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The smallest share of slots taken."""
    return Linear(np.zeros(len(group.pools)), per_load=-1.0)


def round_robin(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """The next in turn, by name, after the one that was picked last."""
    count = len(group.pools)
    start = bisect_right(group.names, given.turn.last)
    return Linear(0.0 - (np.arange(count, dtype=np.float64) - start) % max(count, 1))


def weighted_round_robin(group: PoolGroup, request: RouteRequest, given: Given) -> Linear:
    """In proportion to the pools' weights, spread evenly: the richest in credit first."""
    order = _by_credit(group, _credits(group, given.turn))
    base = np.empty(len(order))
    base[order] = 0.0 - np.arange(len(order))
    return Linear(base)


def _next_by_name(turn: Turn, group: PoolGroup, picked: str) -> Turn:
    return Turn(picked, turn.credits)


def _pay(turn: Turn, group: PoolGroup, picked: str) -> Turn:
    """Smooth weighted round robin as nginx does it: all earn their weight, the winner pays.

    Those ahead of the winner had no room, or they would have won. They take no part, as
    nginx leaves out a peer at its limit: else they would save up for a burst.
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
    """The turns after `pool` got a task of `agent_type`; the same ones where none are taken.

    `table` is the snapshot that the pick was ranked from. A task that went to the overflow
    queue takes nobody's turn: do not call this for it.
    """
    next_turn = strategies[strategy].advance
    if next_turn is None:
        return turns
    turn = turns.get(agent_type, FIRST_TURN)
    return {**turns, agent_type: next_turn(turn, table.group(agent_type), pool)}


def _known_seconds(seconds: FloatArray) -> FloatArray:
    """Response times, with that of the quickest for pools that have none yet; 1 s before any."""
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
