"""The models that a task's money may be held for: the planned one, and what may take its place.

A task whose estimate is over a threshold goes down the mapping at once. What the mapping knows of
the planned model takes its place where a budget is nearly used; the others of the ranking, by their
score, where the planned one fits no limit and the policy is to downgrade.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fleet.budgets.rules.controls import Downgrade
from fleet.budgets.rules.refusals import SEPARATOR
from fleet.models.rules.decision import ModelCandidate, ModelDecision
from fleet.models.rules.downgrade_reasons import DEAR

MOST = 8
"""Models that a submission brings along: it pays for each, and a seventh resort is none."""

PLANNED, CHEAPER, NEXT = "planned", "cheaper", "next"


class Resort(NamedTuple):
    """A model, what it is to the plan, and why it is the planned one though another scored best."""

    candidate: ModelCandidate
    kind: str
    because: str = ""


def resorts(
    decision: ModelDecision, downgrade: Downgrade, goes_on: bool
) -> tuple[Resort, ...]:
    """The planned model first. `goes_on`: whether the rest of the ranking may take its place."""
    ranked = {each.model: each for each in decision.ranking}
    best = decision.best
    planned = _affordable(best, ranked, downgrade)
    expensive = SEPARATOR.join((DEAR, best.model, str(best.cost_nanodollars)))
    because = "" if planned is best else expensive
    cheaper = list(_down(planned, ranked, downgrade.models))
    found = [Resort(planned, PLANNED, because), *(Resort(each, CHEAPER) for each in cheaper)]
    if goes_on:
        taken = {resort.candidate.model for resort in found}
        found += [Resort(each, NEXT) for each in decision.ranking if each.model not in taken]
    return tuple(found[:MOST])


def _affordable(
    best: ModelCandidate, ranked: Mapping[str, ModelCandidate], downgrade: Downgrade
) -> ModelCandidate:
    """The first model down the mapping whose estimate is not over the threshold, else the last."""
    found = best
    for cheaper in _down(best, ranked, downgrade.models):
        if found.cost_nanodollars <= downgrade.over:
            break
        found = cheaper
    return found


def _down(
    candidate: ModelCandidate, ranked: Mapping[str, ModelCandidate], models: Mapping[str, str]
) -> Iterator[ModelCandidate]:
    """What the mapping leads to, step by step, as far as those may serve and cost less."""
    last = candidate
    while (name := models.get(last.model)) is not None and name in ranked:
        if ranked[name].cost_nanodollars >= last.cost_nanodollars:
            return
        last = ranked[name]
        yield last
