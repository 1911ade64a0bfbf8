"""The choice of the pool and of the model, with the scores of every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from fleet.cli.output import dollars
from fleet.cli.rows import Column, RowTable, figure, table
from fleet.cli.task_view import model_note, on_hold_note
from fleet.models.rules.decision import ModelWeights

if TYPE_CHECKING:
    from fleet.models.rules.decision import ModelCandidate, ModelDecision
    from fleet.models.rules.priorities import Priorities
    from fleet.routing.rules.pools import Rejection
    from fleet.routing.rules.routing import Candidate, RouteDecision
    from fleet.scaling.administration import StartWait
    from fleet.tasks.store import TaskRecord


def decision_view(route: RouteDecision | None, model: ModelDecision) -> Group:
    """The candidate pools and models, best first, and the reason for each rejection.

    `route` is None if the application that published the task did not rank the pools.
    """
    parts = [Text("Pool: chosen by the publisher")] if route is None else _route_view(route)
    return Group(*parts, Text(), *model_view(model))


def _route_view(route: RouteDecision) -> list[RenderableType]:
    parts: list[RenderableType] = [_headline(route), *_pools(route)]
    parts += _second_pool(route)
    parts += _rejections(route.rejected)
    if route.omitted:
        parts.append(Text(f"  and {route.omitted} more pools, whose scores are too low to win"))
    return parts


def money_view(record: TaskRecord) -> list[RenderableType]:
    """Lines under the decision: why a cheaper model was chosen, and what the task waits for."""
    downgrade, waits = model_note(record), on_hold_note(record)
    lines = [f"Money: reserved for {downgrade}"] if downgrade else []
    lines += [f"On hold {waits}"] if waits else []
    return [Text(line, style="yellow") for line in lines]


def start_view(wait: StartWait | None) -> list[RenderableType]:
    """A line under the decision if no worker is up that could run the task."""
    if wait is None:
        return []
    coming = f"{wait.starting} starting" if wait.starting else "one is started"
    line = (
        f"Waits for a worker of {wait.pool}, which has none: {coming}, ready in about "
        f"{wait.seconds:.0f} s; {wait.queued} waiting in all"
    )
    return [Text(line, style="yellow")]


def model_view(decision: ModelDecision) -> list[RenderableType]:
    """The choice of the model: candidates, weights, second place and rejections."""
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
    """The choice of the model for programs."""
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
        return Text("Pool: other tasks are waiting, so the task waits behind them", "yellow")
    if route.pool is None:
        return Text("Pool: none had a free slot, so the task waits in the overflow queue", "yellow")
    return Text.assemble("Pool: ", (route.pool, "bold green"), f" by strategy {route.strategy}")


def _pools(route: RouteDecision) -> list[RenderableType]:
    terms = tuple(route.candidates[0].terms) if route.candidates else ()
    columns: list[Column[Candidate]] = [
        Column("pool", lambda each: each.pool),
        figure("total", lambda each: f"{each.total:.4f}"),
        *(_pool_term(name) for name in terms),
        figure("in flight", lambda each: str(each.in_flight)),
        figure("capacity", lambda each: str(each.capacity)),
    ]
    parts: list[RenderableType] = [table(route.candidates, columns)]
    weights = [f"{name} {route.weights[name]:g}" for name in terms if name in route.weights]
    if weights:
        parts.append(Text(f"  weights: {', '.join(weights)}", style="dim"))
    return parts


def _pool_term(name: str) -> Column[Candidate]:
    return figure(name, lambda each: f"{each.terms[name]:.4f}")


def _second_pool(route: RouteDecision) -> list[Text]:
    """The second place, and its distance from the first."""
    second = route.second
    if route.pool is None or second is None:
        return []
    gap = route.scores[route.pool] - second.total
    return [Text(f"  second place: {second.pool}, {gap:.4f} behind", style="dim")]


def _models(decision: ModelDecision) -> RowTable:
    """The candidates, with the terms of their scores if the weights were stored."""
    weights = decision.weights
    terms = [_model_term(name, weights) for name in ModelWeights._fields] if weights else []
    return table(decision.ranking, [*MODEL_SCORE, *terms, *MODEL_FIGURES])


def _model_term(name: str, weights: ModelWeights) -> Column[ModelCandidate]:
    return figure(f"from {name}", lambda each: f"{getattr(each.terms(weights), name):.4f}")


def _sum(weights: ModelWeights, policy: str) -> str:
    """The formula of the score."""
    terms = (f"{name} x {weight:.3g}" for name, weight in weights._asdict().items())
    drawn = " (quality is a random draw from its estimate)" if policy == "thompson" else ""
    return " + ".join(terms) + drawn + "; evidence = rewards + timed calls"


def _priorities(found: Priorities) -> str:
    return (
        f"quality priority {found.quality:g} (from: {found.quality_origin}), "
        f"speed priority {found.speed:g} (from: {found.speed_origin})"
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


MODEL_SCORE: tuple[Column[ModelCandidate], ...] = (
    Column("model", lambda each: each.model),
    figure("score", lambda each: f"{each.score:.4f}"),
)
MODEL_FIGURES: tuple[Column[ModelCandidate], ...] = (
    figure("cost", lambda each: dollars(each.cost_nanodollars)),
    figure("tokens in", lambda each: str(each.input_tokens)),
    figure("out", lambda each: str(each.output_tokens)),
    figure("quality", lambda each: f"{each.quality:.2f}"),
    figure("sd", lambda each: f"{each.quality_sd:.2f}"),
    figure("speed", lambda each: f"{each.speed:.2f}"),
    figure("evidence", lambda each: f"{each.rewards:.0f} + {each.calls:.0f}"),
)
