"""The errors for tasks that a submission or a claim refuses."""

from __future__ import annotations

from math import ceil

from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    InEmergency,
    InvalidRequest,
    NoAgentAvailable,
    OverBudget,
    OverLimit,
    TooBusy,
)
from fleet.policy.rules import Emergency
from fleet.routing.pools_store import parse_counts
from fleet.tasks.rules import QUEUE_SCOPE, FullQueue, retry_after
from fleet.tasks.submission.planning import Plan
from fleet.tasks.submission.store import Placed

Refused = InvalidRequest | NoAgentAvailable | OverBudget | OverLimit | InEmergency | TooBusy
REFUSALS = (InvalidRequest, NoAgentAvailable, OverBudget, OverLimit, InEmergency, TooBusy)
"""Errors that refuse one task while others of the same round trip are submitted."""


def over_error(refusal: Refusal) -> OverBudget | OverLimit:
    """The error for a refusal; its message says what to do."""
    wait = refusal.retry_after
    if wait is None:
        what = "ask for less, or raise the limit"
        return OverBudget(f"{refusal.sentence}; waiting does not help: {what}", None)
    later = f"try again in {ceil(wait)} s"
    if refusal.is_rate:
        return OverLimit(f"{refusal.sentence}; {later}", wait)
    return OverBudget(f"{refusal.sentence}; raise it with `fleet budget set`, or {later}", wait)


def in_emergency(emergency: Emergency) -> InEmergency:
    """The error for a task that may not pass in an emergency."""
    return InEmergency(
        f"the fleet is in emergency mode, by {emergency.by}: {emergency.why}; only priority 0 and "
        "allowed tenants pass until `fleet emergency off`"
    )


def no_agent(plan: Plan) -> NoAgentAvailable:
    """The error for a task without a live agent."""
    return NoAgentAvailable(
        f"no pool that serves {plan.agent_type} takes tasks now "
        f"({', '.join(plan.route.pools) or 'there is no such pool'}): its agents are dead or in "
        "maintenance, see `fleet pools` and `fleet agents`. Start one with `fleet up`, resume it "
        "with `fleet pools resume` or `fleet agents resume`, or try again later"
    )


def too_busy(plan: Plan, placed: Placed) -> TooBusy:
    """The error for a task while the maximum of tasks waits."""
    full = FullQueue.parse(placed.detail)
    rows = parse_counts(placed.loads)
    slots = sum(row.capacity for row in rows)
    typical = [row.overall.response_seconds for row in rows if row.overall.response_seconds]
    wait = retry_after(full.waiting, slots, max(typical, default=1.0))
    of, key = f"the queue of {plan.agent_type}", "waiting_per_pool"
    if full.scope != QUEUE_SCOPE:
        of, key = full.scope, "waiting_per_tenant"
    return TooBusy(
        f"{full.waiting:,} tasks of {of} wait, the limit is {full.most:,}; try again in "
        f"{wait:.0f} s, add agents, or raise limits.{key}",
        wait,
    )
