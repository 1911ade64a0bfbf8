"""The limits and models for the reservation of a task's money."""

from __future__ import annotations

from fleet.budgets.controls import Controls
from fleet.budgets.reservation import CallLimits, Choice, MoneyRules, ScopeLimits
from fleet.models.rules.decision import ModelDecision
from fleet.models.rules.downgrades import fallback_models


def money_rules(
    controls: Controls, request_type: str, tenant: str, agent_type: str, decision: ModelDecision
) -> MoneyRules:
    """The reservation rules that the tasks of a plan share."""
    over = controls.over(request_type, tenant)
    found = fallback_models(decision, controls.downgrade, goes_on=over == "downgrade")
    choices = tuple(
        Choice(
            candidate.model,
            candidate.cost_nanodollars,
            candidate.input_tokens + candidate.output_tokens,
            kind,
            controls.limits.packed(f"model:{candidate.model}"),
            reason,
        )
        for candidate, kind, reason in found
    )
    limits = scope_limits(controls, tenant, agent_type)
    return MoneyRules(agent_type, limits, choices, over, controls.downgrade.nearly)


def call_limits(
    controls: Controls, version: str, tenant: str, agent_type: str, model: str
) -> CallLimits:
    """The limits that a model call has to fit."""
    scopes = scope_limits(controls, tenant, agent_type)
    of_model = controls.limits.packed(f"model:{model}")
    return CallLimits(version, scopes, of_model, controls.task_packed)


def scope_limits(controls: Controls, tenant: str, agent_type: str) -> ScopeLimits:
    """The packed limits of the whole fleet, of a tenant and of an agent type."""
    scopes = ("all", f"tenant:{tenant}", f"agent_type:{agent_type}")
    return ScopeLimits(*map(controls.limits.packed, scopes))
