"""The models for which a task's money may be reserved: the planned model and its fallbacks.

A task with an estimate over a threshold follows the mapping to a cheaper model at once. The mapped
models replace the planned one if a budget is nearly used. The other models of the ranking, by
score, replace it if it exceeds a limit and the policy is to downgrade.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fleet.budgets.rules.controls import Downgrade
from fleet.budgets.rules.refusals import SEPARATOR
from fleet.models.rules.decision import ModelCandidate, ModelDecision
from fleet.models.rules.downgrade_reasons import DEAR

MOST = 8
"""The most models in a submission: each adds to its cost, and a seventh fallback does not help."""

PLANNED, CHEAPER, NEXT = "planned", "cheaper", "next"


class FallbackModel(NamedTuple):
    """A model, its part in the plan, and why it is the planned one although another scored best."""

    candidate: ModelCandidate
    kind: str
    reason: str = ""


def fallback_models(
    decision: ModelDecision, downgrade: Downgrade, goes_on: bool
) -> tuple[FallbackModel, ...]:
    """The planned model first. With `goes_on` the rest of the ranking may replace it."""
    ranked = {each.model: each for each in decision.ranking}
    best = decision.best
    planned = _affordable(best, ranked, downgrade)
    expensive = SEPARATOR.join((DEAR, best.model, str(best.cost_nanodollars)))
    reason = "" if planned is best else expensive
    cheaper = list(_down(planned, ranked, downgrade.models))
    found = [
        FallbackModel(planned, PLANNED, reason),
        *(FallbackModel(each, CHEAPER) for each in cheaper),
    ]
    if goes_on:
        taken = {resort.candidate.model for resort in found}
        found += [FallbackModel(each, NEXT) for each in decision.ranking if each.model not in taken]
    return tuple(found[:MOST])


def _affordable(
    best: ModelCandidate, ranked: Mapping[str, ModelCandidate], downgrade: Downgrade
) -> ModelCandidate:
    """The first model along the mapping with an estimate within the threshold, else the last."""
    found = best
    for cheaper in _down(best, ranked, downgrade.models):
        if found.cost_nanodollars <= downgrade.over:
            break
        found = cheaper
    return found


def _down(
    candidate: ModelCandidate, ranked: Mapping[str, ModelCandidate], models: Mapping[str, str]
) -> Iterator[ModelCandidate]:
    """The models along the mapping, as long as they may serve and cost less."""
    last = candidate
    while (name := models.get(last.model)) is not None and name in ranked:
        if ranked[name].cost_nanodollars >= last.cost_nanodollars:
            return
        last = ranked[name]
        yield last
