"""A decision with all its numbers: why this pool, why this model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars
from fleet.cli.task_view import model_note, parked_note
from fleet.models.rules.decision import ModelWeights

if TYPE_CHECKING:
    from fleet.models.rules.decision import ModelDecision
    from fleet.models.rules.priorities import Priorities
    from fleet.routing.rules.pools import Rejection
    from fleet.routing.rules.routing import RouteDecision
    from fleet.tasks.store import TaskRecord


def decision_view(route: RouteDecision | None, model: ModelDecision) -> Group:
    """The pool's and the model's candidates, best first, and why each other was passed over.

    `route` is None for a task whose publisher had no ranking.
    """
    parts = [Text("Pool: chosen by its publisher")] if route is None else _route_view(route)
    return Group(*parts, Text(), *model_view(model))


def _route_view(route: RouteDecision) -> list[RenderableType]:
    parts: list[RenderableType] = [_headline(route), _pools(route)]
    parts += _second_pool(route)
    parts += _rejections(route.rejected)
    if route.omitted:
        parts.append(Text(f"  and {route.omitted} further pools that could not have won"))
    return parts


def money_view(record: TaskRecord) -> list[RenderableType]:
    """What the money of a task has to say, where it has: lines under the decision."""
    downgrade, waits = model_note(record), parked_note(record)
    lines = [f"Money: held for {downgrade}"] if downgrade else []
    lines += [f"Parked {waits}"] if waits else []
    return [Text(line, style="yellow") for line in lines]


def model_view(decision: ModelDecision) -> list[RenderableType]:
    """The half of the view that is about the model."""
    headline = Text.assemble("Model: ", (decision.model, "bold green"))
    parts: list[RenderableType] = [headline, _models(decision)]
    weights = decision.weights
    if weights is not None:
        parts.append(Text(f"  score = {_sum(weights, decision.policy)}", style="dim"))
    if decision.priorities is not None:
        parts.append(Text(f"  {_priorities(decision.priorities)}", style="dim"))
    parts += _second_place(decision)
    return [*parts, *_rejections(decision.rejected)]


def model_json(decision: ModelDecision) -> dict[str, Any]:
    """The choice of the model for programs, with names for all numbers."""
    weights = decision.weights
    return {
        "model": decision.model,
        "policy": decision.policy,
        "limit_nanodollars": decision.limit_nanodollars,
        "weights": weights._asdict() if weights else None,
        "priorities": decision.priorities._asdict() if decision.priorities else None,
        "candidates": [
            {
                **candidate._asdict(),
                "terms": candidate.terms(weights)._asdict() if weights else None,
            }
            for candidate in decision.ranking
        ],
        "rejected": [{"model": each.pool, "reason": each.reason} for each in decision.rejected],
        "second_costs_more_nanodollars": decision.second_costs_more,
    }


def _headline(route: RouteDecision) -> Text:
    if route.pool is None and route.candidates:
        return Text("Pool: others wait already, so the task waits behind them", "yellow")
    if route.pool is None:
        return Text("Pool: none had a free slot, so the task waits in the overflow queue", "yellow")
    return Text.assemble("Pool: ", (route.pool, "bold green"), f" by strategy {route.strategy}")


def _pools(route: RouteDecision) -> Table:
    terms = tuple(route.candidates[0].terms) if route.candidates else ()
    table = _table("pool", ("total", *terms, "in flight", "capacity"))
    for candidate in route.candidates:
        table.add_row(
            candidate.pool,
            f"{candidate.total:.4f}",
            *(f"{term:.4f}" for term in candidate.terms.values()),
            str(candidate.in_flight),
            str(candidate.capacity),
        )
    if route.weights:
        weights = (f"{route.weights[term]:g}" if term in route.weights else "" for term in terms)
        table.add_row("weight", "", *weights, style="dim")
    return table


def _second_pool(route: RouteDecision) -> list[Text]:
    """How far the second place was from the first."""
    second = route.second
    if route.pool is None or second is None:
        return []
    gap = route.scores[route.pool] - second.total
    return [Text(f"  second place: {second.pool}, {gap:.4f} behind", style="dim")]


def _models(decision: ModelDecision) -> Table:
    """The candidates; the terms of their scores where the decision was stored with its weights."""
    weights = decision.weights
    terms = tuple(f"from {name}" for name in ModelWeights._fields) if weights else ()
    figures = ("score", *terms, "cost", "tokens in", "out", "quality", "sd", "speed", "evidence")
    table = _table("model", figures)
    for candidate in decision.ranking:
        table.add_row(
            candidate.model,
            f"{candidate.score:.4f}",
            *(f"{term:.4f}" for term in (candidate.terms(weights) if weights else ())),
            dollars(candidate.cost_nanodollars),
            str(candidate.input_tokens),
            str(candidate.output_tokens),
            f"{candidate.quality:.2f}",
            f"{candidate.quality_sd:.2f}",
            f"{candidate.speed:.2f}",
            f"{candidate.rewards:.0f} + {candidate.calls:.0f}",
        )
    return table


def _sum(weights: ModelWeights, policy: str) -> str:
    terms = (f"{name} x {weight:.3g}" for name, weight in weights._asdict().items())
    drawn = ", quality being a draw from what is believed of it" if policy == "thompson" else ""
    return " + ".join(terms) + drawn + "; evidence = rewards + timed calls"


def _priorities(asked: Priorities) -> str:
    return (
        f"quality priority {asked.quality:g} (from: {asked.quality_origin}), "
        f"speed priority {asked.speed:g} (from: {asked.speed_origin})"
    )


def _second_place(decision: ModelDecision) -> list[Text]:
    more = decision.second_costs_more
    if more is None:
        return []
    second = decision.ranking[1]
    compared = f"{dollars(abs(more))} {'more' if more > 0 else 'less'}" if more else "as much"
    cost = dollars(second.cost_nanodollars)
    return [Text(f"  second place, {second.model}, would have cost {cost}: {compared}")]


def _rejections(rejected: Sequence[Rejection]) -> list[Text]:
    return [Text(f"  not {rejection.pool}: {rejection.reason}") for rejection in rejected]


def _table(name: str, figures: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column(name)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table
