"""The choice of the model for a plan, and the stored form of the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fleet.agent import GENERAL_ESTIMATE, AgentSpec, TokenEstimate
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.priorities import task_priorities
from fleet.models.rules.choice import Model, ModelDecision, ModelNeeds, choose
from fleet.models.rules.learning import NOTHING_LEARNED, ChoicePolicy, ModelFacts
from fleet.money import Tokens
from fleet.routing.rules.routing import Ranking
from fleet.settings import FleetConfig, Settings
from fleet.tasks.submission.checks import DEFAULT_TENANT
from fleet.text import unknown
from fleet.untrusted import NO_GRANTS, Grants

GENERAL = "general"
"""The model task whose estimate applies if no agent announces one."""


def stored_plan(
    request_type: str,
    agent_type: str,
    complexity: float,
    models: ModelDecision,
    ranking: Ranking | None,
    pinned: str | None = None,
    asked_model: str | None = None,
    grants: Grants = NO_GRANTS,
) -> str:
    """The stored form of a plan: one field, since every field costs time at the submission."""
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
            "grants": None if grants == NO_GRANTS else grants.to_json(),
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
    base: Tokens,
    tenant: str = DEFAULT_TENANT,
    payload_characters: int = 0,
    facts: ModelFacts = NOTHING_LEARNED,
    now: float = 0.0,
    rng: np.random.Generator | None = None,
    quality: float | None = None,
    speed: float | None = None,
) -> ModelDecision:
    """Choose the model for a request.

    The priorities are `quality` and `speed`, else those of the request type, the tenant or the
    configuration. `base` is the result of `base_tokens`; `now` is by Redis's clock. Policy
    `thompson` draws from `rng`, or from a new generator.

    Raises `InvalidRequest` if `only` is not in the catalogue, and the errors of `choose` if no
    model may serve.
    """
    allowed = tuple(model for model in models if only in (None, model.name))
    if not allowed:
        names = {model.name: model for model in models}
        raise InvalidRequest(unknown("model of the catalogue", only, names))
    priorities = task_priorities(config, request_type, tenant, quality, speed)
    if rng is None and config.models.policy == "thompson":
        rng = np.random.default_rng()
    decision = choose(
        allowed,
        base,
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


def base_tokens(config: FleetConfig, agents: Mapping[str, AgentSpec], request_type: str) -> Tokens:
    """The token estimate of a request type: that of its `model_task`, else that of its agent."""
    request = config.request_types.get(request_type)
    if request and request.model_task:
        return Tokens(*_model_tasks(agents).get(request.model_task, GENERAL_ESTIMATE))
    spec = agents.get(request.agent_type) if request else None
    return Tokens(*(spec.estimate if spec else GENERAL_ESTIMATE))


def check_model_tasks(settings: Settings, agents: Mapping[str, AgentSpec]) -> None:
    """Raise `InvalidConfig` if the configuration names a model task that no agent announces."""
    known = _model_tasks(agents)
    for name, request in settings.config.request_types.items():
        if request.model_task and request.model_task not in known:
            sentence = unknown("model task", request.model_task, known)
            raise InvalidConfig(f"{settings.source}: request_types.{name}.model_task: {sentence}")


def _model_tasks(agents: Mapping[str, AgentSpec]) -> dict[str, TokenEstimate]:
    announced = {spec.model_task: spec.estimate for spec in agents.values() if spec.model_task}
    return {GENERAL: GENERAL_ESTIMATE, **announced}


def _needs(
    config: FleetConfig, request_type: str, tenant: str, payload_characters: int
) -> ModelNeeds:
    request = config.request_types.get(request_type)
    return ModelNeeds(
        tenant,
        payload_characters,
        frozenset(request.needs if request else ()),
        frozenset(config.models.regions),
        request_type,
    )


def model_policy(config: FleetConfig) -> ChoicePolicy:
    """The configured policy for using learned facts about models."""
    models = config.models
    return ChoicePolicy(
        models.policy, models.quality_floor, models.prior_strength, models.learn_half_life_seconds
    )
