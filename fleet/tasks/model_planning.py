"""The model's half of a plan, and the plan as it is kept with its task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fleet.errors import InvalidRequest
from fleet.models.priorities import task_priorities
from fleet.models.rules.choice import Model, ModelDecision, Needs, choose
from fleet.models.rules.learning import NOTHING_LEARNED, ModelFacts, Policy
from fleet.routing.rules.routing import Ranking
from fleet.settings import FleetConfig
from fleet.tasks.checks import DEFAULT_TENANT, unknown


def stored_plan(
    request_type: str,
    agent_type: str,
    complexity: float,
    models: ModelDecision,
    ranking: Ranking | None,
    pinned: str | None = None,
    asked_model: str | None = None,
) -> str:
    """The plan as it is kept with the task: one field, since a submission pays for each."""
    return json.dumps(
        {
            "request_type": request_type,
            "agent_type": agent_type,
            "complexity": complexity,
            "model": models.model,
            "model_decision": models.to_json(),
            "limit_nanodollars": models.limit_nanodollars,
            "ranking": ranking.to_json() if ranking else None,
            "pinned": pinned,
            "asked_model": asked_model,
        },
        separators=(",", ":"),
    )


def choose_model(
    config: FleetConfig,
    models: Sequence[Model],
    request_type: str,
    complexity: float,
    only: str | None = None,
    limit_nanodollars: int | None = None,
    *,
    tenant: str = DEFAULT_TENANT,
    payload_characters: int = 0,
    facts: ModelFacts = NOTHING_LEARNED,
    now: float = 0.0,
    rng: np.random.Generator | None = None,
    quality: float | None = None,
    speed: float | None = None,
) -> ModelDecision:
    """The model for a request, by the priorities `quality` and `speed` where they are given, else
    by those of its request type, its tenant or the configuration. `now` is by Redis's clock.
    Policy `thompson` draws from `rng`, or from a generator of its own where it is given none.

    Raises `InvalidRequest` where `only` is not in the catalogue, and what `choose` raises where no
    model may serve.
    """
    allowed = tuple(model for model in models if only in (None, model.name))
    if not allowed:
        names = {model.name: model for model in models}
        raise InvalidRequest(unknown("model of the catalogue", only, names))
    request = config.request_types.get(request_type)
    priorities = task_priorities(config, request_type, tenant, quality, speed)
    if rng is None and config.models.policy == "thompson":
        rng = np.random.default_rng()
    decision = choose(
        allowed,
        (request and request.model_task) or request_type,
        complexity,
        priorities.quality,
        priorities.speed,
        limit_nanodollars,
        needs=_needs(config, request_type, tenant, payload_characters),
        facts=facts,
        policy=model_policy(config),
        now=now,
        rng=rng,
    )
    return replace(decision, priorities=priorities)


def _needs(
    config: FleetConfig, request_type: str, tenant: str, payload_characters: int
) -> Needs:
    request = config.request_types.get(request_type)
    return Needs(
        tenant,
        payload_characters,
        frozenset(request.needs if request else ()),
        frozenset(config.models.regions),
        request_type,
    )


def model_policy(config: FleetConfig) -> Policy:
    """How what was learned of the models is used, as configured."""
    models = config.models
    return Policy(
        models.policy, models.quality_floor, models.prior_strength, models.learn_half_life_seconds
    )
