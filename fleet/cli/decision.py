"""A decision with all its numbers: why this pool, why this model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars

if TYPE_CHECKING:
    from fleet.core.model_choice import ModelDecision
    from fleet.core.pools import Rejection
    from fleet.core.routing import RouteDecision

def decision_view(route: RouteDecision, model: ModelDecision | None) -> Group:
    """The pool's and the model's candidates, best first, and why each other was passed over."""
    parts: list[RenderableType] = [_headline(route), _pools(route)]
    parts += _second_pool(route)
    parts += _rejections(route.rejected)
    if route.omitted:
        parts.append(Text(f"  and {route.omitted} further pools that could not have won"))
    if model is not None:
        headline = Text.assemble("Model: ", (model.model, "bold green"))
        parts += [Text(), headline, _models(model), *_rejections(model.rejected)]
    return Group(*parts)


def model_decision_json(decision: ModelDecision) -> dict[str, Any]:
    """The choice of the model for programs, with names for all numbers."""
    return {
        "model": decision.model,
        "candidates": [candidate._asdict() for candidate in decision.ranking],
        "rejected": [{"model": each.pool, "reason": each.reason} for each in decision.rejected],
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
    figures = ("score", "cost", "tokens in", "out", "quality", "speed")
    table = _table("model", figures)
    for candidate in decision.ranking:
        table.add_row(
            candidate.model,
            f"{candidate.score:.4f}",
            dollars(candidate.cost_nanodollars),
            str(candidate.input_tokens),
            str(candidate.output_tokens),
            f"{candidate.quality:.2f}",
            f"{candidate.speed:.2f}",
        )
    return table


def _rejections(rejected: Sequence[Rejection]) -> list[Text]:
    return [Text(f"  not {rejection.pool}: {rejection.reason}") for rejection in rejected]


def _table(name: str, figures: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column(name)
    for figure in figures:
        table.add_column(figure, justify="right", no_wrap=True)
    return table
