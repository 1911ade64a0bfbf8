"""The five ways to pick a pool, each as a linear rule that Redis can evaluate per pool.

    total = base + per_task * in_flight + per_load * (in_flight / capacity)

The highest total among the pools with room wins. The two in turn express their order in
the base; whose turn it is belongs to the producer, comes in as a value, and moves on
(`advance`) only for the pool that really got the task.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.core.pools import PoolGroup, PoolTable
from fleet.core.scoring import FloatArray, Weights, complexity_band

SILENT_COMPATIBILITY = 0.5


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


class SlowTerms(NamedTuple):
    """The weighted terms that do not depend on the load, a column each."""

    success: FloatArray
    response: FloatArray
    compatibility: FloatArray
    complexity_fit: FloatArray


class Linear(NamedTuple):
    """A strategy's answer: the rule above, `base` a column, with its terms where it has any."""

    base: FloatArray
    per_task: float = 0.0
    per_load: float = 0.0
    terms: SlowTerms | None = None


Strategy = Callable[[PoolGroup, RouteRequest, Turn, Weights], Linear]


def ai_optimized(group: PoolGroup, request: RouteRequest, turn: Turn, weights: Weights) -> Linear:
    """The highest total score. The load term, w (1 - load), splits into w and -w load."""
    fit = group.fits[complexity_band(request.complexity)]
    terms = SlowTerms(
        success=weights.success * group.success_rate,
        response=weights.response * group.response,
        compatibility=weights.compatibility * _compatibility(group, request.compatibility),
        complexity_fit=weights.complexity_fit * fit,
    )
    base = terms.success + terms.response + terms.compatibility + terms.complexity_fit
    return Linear(base + weights.load, per_load=-weights.load, terms=terms)


def least_connections(
    group: PoolGroup, request: RouteRequest, turn: Turn, weights: Weights
) -> Linear:
    """The fewest tasks in flight."""
    return Linear(np.zeros(len(group.pools)), per_task=-1.0)


def least_loaded(group: PoolGroup, request: RouteRequest, turn: Turn, weights: Weights) -> Linear:
    """The smallest share of slots taken."""
    return Linear(np.zeros(len(group.pools)), per_load=-1.0)


def round_robin(group: PoolGroup, request: RouteRequest, turn: Turn, weights: Weights) -> Linear:
    """The next in turn, by name, after the one that was picked last."""
    count = len(group.pools)
    start = bisect_right(group.names, turn.last)
    return Linear(0.0 - (np.arange(count, dtype=np.float64) - start) % max(count, 1))


def weighted_round_robin(
    group: PoolGroup, request: RouteRequest, turn: Turn, weights: Weights
) -> Linear:
    """In proportion to the pools' weights, spread evenly: the richest in credit first."""
    order = _by_credit(group, _credits(group, turn))
    base = np.empty(len(order))
    base[order] = 0.0 - np.arange(len(order))
    return Linear(base)


STRATEGIES: Mapping[str, Strategy] = {
    "ai_optimized": ai_optimized,
    "least_connections": least_connections,
    "least_loaded": least_loaded,
    "round_robin": round_robin,
    "weighted_round_robin": weighted_round_robin,
}


def advance(turns: Turns, strategy: str, table: PoolTable, agent_type: str, pool: str) -> Turns:
    """The turns after `pool` got a task of `agent_type`; the same ones where none are taken.

    `table` is the snapshot that the pick was ranked from. A task that went to the overflow
    queue takes nobody's turn: do not call this for it.
    """
    turn = turns.get(agent_type, FIRST_TURN)
    if strategy == "round_robin":
        return {**turns, agent_type: Turn(pool, turn.credits)}
    if strategy == "weighted_round_robin":
        return {**turns, agent_type: _pay(turn, table.group(agent_type), pool)}
    return turns


def _compatibility(group: PoolGroup, compatibility: Mapping[str, float]) -> FloatArray:
    by_type = [compatibility.get(name, SILENT_COMPATIBILITY) for name in group.agent_types]
    return np.array(by_type, dtype=np.float64)[group.agent_type_of]


def _credits(group: PoolGroup, turn: Turn) -> FloatArray:
    return np.array([turn.credits.get(name, 0) for name in group.names], dtype=np.float64)


def _by_credit(group: PoolGroup, credits: FloatArray) -> npt.NDArray[np.intp]:
    return np.argsort(-(credits + group.weight), kind="stable")


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
