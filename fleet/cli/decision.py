"""A decision with all its numbers: why this pool, why this model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli.output import dollars

if TYPE_CHECKING:
    from fleet.core.model_choice import ModelDecision
    from fleet.core.pools import Rejection
    from fleet.core.routing import RouteDecision

TERMS = ("success", "response", "load", "compatibility", "complexity")


def decision_view(route: RouteDecision, model: ModelDecision | None) -> Group:
    """The pool's and the model's candidates, best first, and why each other was passed over."""
    parts: list[RenderableType] = [_headline(route), _pools(route)]
    if any(candidate.terms for candidate in route.candidates):
        parts.append(Text(f"  total = {' + '.join(TERMS)}, each with its weight", style="dim"))
    parts += _rejections(route.rejected)
    if route.omitted:
        parts.append(Text(f"  and {route.omitted} further pools that could not have won"))
    if model is not None:
        headline = Text.assemble("Model: ", (model.model, "bold green"))
        parts += [Text(), headline, _models(model), *_rejections(model.rejected)]
    return Group(*parts)


def _headline(route: RouteDecision) -> Text:
    if route.pool is None:
        return Text("Pool: none had a free slot, so the task waits in the overflow queue", "yellow")
    return Text.assemble("Pool: ", (route.pool, "bold green"), f" by strategy {route.strategy}")


def _pools(route: RouteDecision) -> Table:
    scored = any(candidate.terms for candidate in route.candidates)
    table = _table("pool", ("total", *(TERMS if scored else ()), "in flight", "capacity"))
    for candidate in route.candidates:
        terms = candidate.terms or ()
        table.add_row(
            candidate.pool,
            f"{candidate.total:.4f}",
            *(f"{term:.4f}" for term in terms if term is not None),
            str(candidate.in_flight),
            str(candidate.capacity),
        )
    return table


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
