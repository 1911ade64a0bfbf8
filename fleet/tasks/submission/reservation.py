"""By which limits a task's money is held, and for which models."""

from __future__ import annotations

from math import ceil

from fleet.budgets.controls import Controls
from fleet.budgets.reservation import CallLimits, Choice, MoneyRules, ScopeLimits
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import InEmergency, OverBudget, OverLimit
from fleet.models.rules.decision import ModelDecision
from fleet.models.rules.downgrades import fallback_models
from fleet.policy.rules import Emergency


def money_rules(
    controls: Controls, request_type: str, tenant: str, agent_type: str, decision: ModelDecision
) -> MoneyRules:
    """The rules for the tasks of a plan."""
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
    """The packed limits of everything, of a tenant and of an agent type."""
    scopes = ("all", f"tenant:{tenant}", f"agent_type:{agent_type}")
    return ScopeLimits(*map(controls.limits.packed, scopes))


def over_error(refusal: Refusal) -> OverBudget | OverLimit:
    """The refusal as the error that says what to do."""
    wait = refusal.retry_after
    if wait is None:
        what = "ask for less, or raise the limit"
        return OverBudget(f"{refusal.sentence}; waiting does not help: {what}", None)
    later = f"try again in {ceil(wait)} s"
    if refusal.is_rate:
        return OverLimit(f"{refusal.sentence}; {later}", wait)
    return OverBudget(f"{refusal.sentence}; raise it with `fleet budget set`, or {later}", wait)


def in_emergency(emergency: Emergency) -> InEmergency:
    """The refusal of a task that does not pass."""
    return InEmergency(
        f"the fleet is in emergency mode, by {emergency.by}: {emergency.why}; only priority 0 and "
        "allowed tenants pass until `fleet emergency off`"
    )
