"""The choice of the language model for a task: the best score of quality, speed and cost.

    tokens = base x (0.5 + 1.5 c) x efficiency, rounded down, input and output each
    cost   = input / 1000 x input price + output / 1000 x output price
    score  = quality x Q (0.5 + c) + speed x S + (1 / (1 + cost)) x (1 - Q - S)

base is the estimate of the task's agent, c the complexity, Q the quality priority, S the speed
priority. Quality and speed are the catalogue's figures until there is evidence
(`fleet.models.rules.learning`). Only models that pass the filters (`fleet.models.rules.filters`)
are scored. Tokens and costs are computed in whole numbers from the written decimals: in binary
fractions 500 x 1.55 may be under 775, and rounding would lose a token.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.rules.catalogue import REFERENCE_CATALOGUE, Model, cost_nanodollars
from fleet.models.rules.decision import ModelCandidate, ModelDecision, ModelWeights, cheapness
from fleet.models.rules.filters import (
    NO_NEEDS,
    Bounds,
    FilteredModel,
    ModelNeeds,
    nothing_left,
    unfit,
    unready,
)
from fleet.models.rules.learning import (
    NOTHING_LEARNED,
    THE_MEAN,
    ChoicePolicy,
    ModelFacts,
    Posterior,
    drawn_quality,
    posterior,
)
from fleet.money import NANODOLLARS, Price, Tokens
from fleet.routing.rules.pools import Rejection

__all__ = [
    "NANODOLLARS",
    "REFERENCE_CATALOGUE",
    "Model",
    "ModelCandidate",
    "ModelDecision",
    "ModelNeeds",
    "ModelWeights",
    "Price",
    "Tokens",
    "choose",
    "cost_nanodollars",
    "tokens",
]

ROUNDING = 1e-9


def tokens(base: Tokens, complexity: float, efficiency: float) -> Tokens:
    """The tokens of a task. A task of medium complexity takes `base`.

    Raises `InvalidRequest` for a complexity outside 0..1.
    """
    return _demand(base, complexity).taken(efficiency)


def choose(
    models: Iterable[Model],
    base: Tokens,
    complexity: float = 0.5,
    quality_priority: float = 0.7,
    speed_priority: float = 0.3,
    limit_nanodollars: int | None = None,
    *,
    needs: ModelNeeds = NO_NEEDS,
    facts: ModelFacts = NOTHING_LEARNED,
    policy: ChoicePolicy = THE_MEAN,
    now: float = 0.0,
    rng: np.random.Generator | None = None,
) -> ModelDecision:
    """Score every model that may serve. Equal scores go to the cheaper model, then by name.

    Models that are cooling down are scored too, and kept as reserves.

    `now` is in seconds since 1970 by Redis's clock. The policy `thompson` needs `rng`. Raises
    `InvalidConfig` for an empty catalogue, `InvalidRequest` for a complexity or a priority out of
    range, and the error of `nothing_left` if no model may serve.
    """
    weights = _weights(complexity, quality_priority, speed_priority)
    demand = _demand(base, complexity)
    bounds = Bounds(needs, facts, limit_nanodollars, policy.quality_floor, now)
    task = _Task(demand, weights, bounds, policy, _dice(policy, rng))
    judged = [_judged(model, task) for model in models]
    if not judged:
        raise InvalidConfig("the model catalogue is empty; configure at least one model")
    ranking = _best_first(scored for scored, refusal in judged if refusal is None)
    reserves = _best_first(scored for scored, refusal in judged if refusal is not None)
    refusals = sorted(refusal for _, refusal in judged if refusal is not None)
    if not ranking:
        raise nothing_left(refusals, limit_nanodollars, needs.tenant)
    rejected = tuple(sorted(Rejection(each.model, each.reason) for each in refusals))
    return ModelDecision(ranking, rejected, weights, policy.name, limit_nanodollars, reserves)


class _Demand(NamedTuple):
    """A task's tokens before a model's efficiency, as fractions with one denominator."""

    input: int
    output: int
    below: int

    def taken(self, efficiency: float) -> Tokens:
        times, over = _ratio(efficiency)
        over *= self.below
        return Tokens(self.input * times // over, self.output * times // over)


class _Task(NamedTuple):
    """The inputs of one choice."""

    demand: _Demand
    weights: ModelWeights
    bounds: Bounds
    policy: ChoicePolicy
    rng: np.random.Generator | None


class _Judged(NamedTuple):
    """A model's score, if it may serve or only cools down, and the reason why it may not serve."""

    scored: ModelCandidate | None
    refusal: FilteredModel | None


def _judged(model: Model, task: _Task) -> _Judged:
    """Apply the filters to a model and score it if it passes."""
    used = task.demand.taken(model.efficiency)
    record = task.bounds.facts.limits.get(model.name)
    if record is not None and record.is_broken:
        # The output limit does not bound what it writes.
        used = used._replace(output=max(used.output, record.largest))
    refusal = unfit(model, used, task.bounds)
    if refusal is not None:
        return _Judged(None, refusal)
    cost = cost_nanodollars(model, used)
    evidence = task.bounds.facts.evidence.get((model.name, task.bounds.needs.request_type))
    belief = posterior(model.quality, model.speed, evidence, task.policy, task.bounds.now)
    refusal = unready(model, cost, belief.quality, task.bounds)
    if refusal is not None and refusal.kind != "cooling":
        return _Judged(None, refusal)
    return _Judged(_scored(model, used, cost, belief, task), refusal)


def _scored(
    model: Model, used: Tokens, cost: int, belief: Posterior, task: _Task
) -> ModelCandidate:
    quality = drawn_quality(belief, task.policy, task.rng) if task.rng else belief.quality
    weights = task.weights
    score = (
        quality * weights.quality
        + belief.speed * weights.speed
        + cheapness(cost) * weights.cheapness
    )
    return ModelCandidate(
        model.name,
        model.provider,
        score,
        cost,
        used.input,
        used.output,
        quality,
        belief.speed,
        belief.quality_sd,
        belief.rewards,
        belief.calls,
        belief.quality,
    )


def _best_first(candidates: Iterable[ModelCandidate | None]) -> tuple[ModelCandidate, ...]:
    found = [each for each in candidates if each is not None]
    found.sort(key=lambda each: (-each.score, each.cost_nanodollars, each.model))
    return tuple(found)


def _dice(policy: ChoicePolicy, rng: np.random.Generator | None) -> np.random.Generator | None:
    """The generator for a random policy, None for `mean`. Raises `ValueError` if it is missing."""
    if policy.name == "mean":
        return None
    if rng is None:
        raise ValueError(f"the policy {policy.name} draws at random and needs an rng")
    return rng


def _demand(base: Tokens, complexity: float) -> _Demand:
    if not 0.0 <= complexity <= 1.0:
        raise InvalidRequest(f"complexity is {complexity!r}; give a number from 0 to 1")
    above, below = _ratio(complexity)
    # 0.5 + 1.5 a/b = (b + 3a) / 2b
    factor = below + 3 * above
    return _Demand(base.input * factor, base.output * factor, 2 * below)


def _weights(complexity: float, quality: float, speed: float) -> ModelWeights:
    if not (0.0 <= quality <= 1.0 and 0.0 <= speed <= 1.0 and quality + speed <= 1.0 + ROUNDING):
        raise InvalidRequest(
            f"quality priority {quality!r} and speed priority {speed!r}: give each from 0 to 1, "
            "and both together at most 1"
        )
    # In binary fractions 1 - 0.8 - 0.2 is slightly under 0 and would reward a high cost.
    rest = 1.0 - quality - speed
    return ModelWeights(quality * (0.5 + complexity), speed, rest if rest > ROUNDING else 0.0)


@lru_cache(maxsize=4096)
def _ratio(value: float) -> tuple[int, int]:
    """The number's decimal notation as a fraction of two whole numbers."""
    return Decimal(repr(float(value))).as_integer_ratio()
