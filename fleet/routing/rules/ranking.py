"""The first half of a decision: which pools may serve a task, and the score of each.

`rank` runs in the caller's process on a snapshot that may be stale. It turns the slow terms of the
strategy into one `Rule` per pool. `fleet.routing.rules.routing` adds the exact load later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fleet.errors import FleetError, InvalidConfig, InvalidRequest
from fleet.routing.rules.pools import PoolGroup, PoolTable, Rejection
from fleet.routing.rules.scoring import REFERENCE_WEIGHTS, FloatArray, ScoreWeights
from fleet.routing.rules.strategies import (
    FIRST_TURN,
    NO_TURNS,
    STRATEGIES,
    Linear,
    RouteRequest,
    Strategy,
    StrategyContext,
    Turns,
)

# The number of rules that go to the atomic step. With more pools, the others cannot win: if none of
# these has a free slot the task waits in the overflow queue, which every pool reads.
RULE_LIMIT = 16


class Rule(NamedTuple):
    """How the atomic step scores one pool; see the head of `fleet.routing.rules.routing`.

    `terms` are the values for the ranking's `terms`, in the same order, if the strategy has terms.
    """

    pool: str
    base: float
    per_task: float
    per_load: float
    terms: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The first half of a decision: rules, best slow terms first, and the rejected pools.

    It can be stored, read back and decided again. Pools that were dead or full in the snapshot have
    rules too, because only the atomic step knows their state. `omitted` counts the pools that are
    in neither list, to save space. `terms` names the rules' terms. `weights` are the weights of the
    terms, if the strategy weighs them. The load's own term is `load_weight` plus the rule's
    addition for the load.
    """

    strategy: str
    rules: tuple[Rule, ...]
    rejected: tuple[Rejection, ...]
    omitted: int = 0
    terms: tuple[str, ...] = ()
    load_weight: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`. A rule is `[pool, base, per_task, per_load, terms or null]`."""
        return {
            "strategy": self.strategy,
            "rules": self.rules,
            "rejected": self.rejected,
            "omitted": self.omitted,
            "terms": self.terms,
            "load_weight": self.load_weight,
            "weights": self.weights,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also after a round trip through text."""
        return cls(
            stored["strategy"],
            tuple(_stored_rule(*each) for each in stored["rules"]),
            tuple(Rejection(*pair) for pair in stored["rejected"]),
            stored["omitted"],
            tuple(stored["terms"]),
            stored["load_weight"],
            stored["weights"],
        )


def rank(
    strategy: str,
    request: RouteRequest,
    table: PoolTable,
    turns: Turns = NO_TURNS,
    *,
    weights: ScoreWeights = REFERENCE_WEIGHTS,
    limit: int = RULE_LIMIT,
    rng: np.random.Generator | None = None,
    strategies: Mapping[str, Strategy] = STRATEGIES,
) -> Ranking:
    """Rank the pools that may serve the request by everything except their exact load.

    Of more than `limit` pools, the best by the snapshot's own counts are kept. Raises
    `InvalidRequest` for an unknown strategy or a complexity outside 0..1.
    """
    if strategy not in strategies:
        known = ", ".join(sorted(strategies))
        raise InvalidRequest(f"no strategy is called {strategy!r}; use one of: {known}")
    if not 0.0 <= request.complexity <= 1.0:
        raise InvalidRequest(f"complexity is {request.complexity!r}; give a number from 0 to 1")
    group = table.group(request.agent_type)
    given = StrategyContext(turns.get(request.agent_type, FIRST_TURN), weights, rng)
    linear = _ruled(strategy, strategies[strategy], group, request, given)
    if len(linear.base) != len(group.pools) or not np.isfinite(linear.base).all():
        raise InvalidRequest(
            f"strategy {strategy} must give each of {len(group.pools)} pools a finite number; "
            "correct it, or choose another strategy (`fleet route set`)"
        )
    rows = _shortlist(group, linear, limit)
    return Ranking(
        strategy,
        tuple(_rules(group, linear, rows)),
        group.rejected,
        len(group.pools) - len(rows) + group.unnamed,
        tuple(linear.terms or ()),
        linear.load_weight,
        linear.weights,
    )


def _ruled(
    name: str, strategy: Strategy, group: PoolGroup, request: RouteRequest, given: StrategyContext
) -> Linear:
    """The result of a strategy. Raises `InvalidConfig` if it fails: a package may bring it."""
    try:
        return strategy.rule(group, request, given)
    except FleetError:
        raise
    except Exception as error:
        raise InvalidConfig(
            f"strategy {name} ({strategy.rule.__module__}) failed: {type(error).__name__}: "
            f"{error}; correct it, or choose another strategy (`fleet route set`)"
        ) from error


def _stored_rule(
    pool: str, base: float, per_task: float, per_load: float, terms: list[float] | None
) -> Rule:
    return Rule(pool, base, per_task, per_load, tuple(terms) if terms else None)


def _shortlist(group: PoolGroup, linear: Linear, limit: int) -> npt.NDArray[np.intp]:
    """The rows of the `limit` best pools, best slow terms first.

    Rows are ordered by name and the sort is stable, so equal pools stay ordered by name.
    """
    if len(group.pools) <= limit:
        return (-linear.base).argsort(kind="stable")
    rows = _best_now(group, linear, limit)
    return rows[(-linear.base[rows]).argsort(kind="stable")]


def _best_now(group: PoolGroup, linear: Linear, limit: int) -> npt.NDArray[np.intp]:
    """The rows of the `limit` best pools by the snapshot's counts, in row order."""
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
        _each(linear.per_task, rows),
        _each(linear.per_load, rows),
        terms,
        strict=False,  # the constants have no end
    )
    return map(Rule._make, columns)


def _each(figure: float | FloatArray, rows: npt.NDArray[np.intp]) -> Iterator[float]:
    # A plain float: a strategy may return a NumPy number, which prints in another form.
    return iter(figure[rows].tolist()) if isinstance(figure, np.ndarray) else repeat(float(figure))


def _terms(
    terms: Mapping[str, FloatArray], rows: npt.NDArray[np.intp]
) -> Iterator[tuple[float, ...]]:
    return zip(*(column[rows].tolist() for column in terms.values()), strict=True)
