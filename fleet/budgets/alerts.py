"""Checks every dollar budget in force and raises an alert for each threshold that is reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleet.budgets.controls import Controls
from fleet.budgets.rules.alerts import BudgetAlert, BudgetUse
from fleet.budgets.rules.limits import Limit, Limits
from fleet.budgets.stores import BudgetStores
from fleet.budgets.usage_store import UsageReading, UsageStore
from fleet.policy.rules import LimitKey
from fleet.settings.names import EACH
from fleet.telemetry.logger import get_logger

BUDGET_WINDOWS = ("hour", "day", "month")

log = get_logger(__name__)


def look_at_budgets(controls: Controls, budgets: BudgetStores) -> list[str]:
    """Raise an alert for each threshold that was reached for the first time in its window. Returns
    the alerts as sentences.

    May run in several places at once and be killed anywhere: one script raises each alert once and
    keeps it. The log line follows, and is lost if the process dies before.
    """
    found = [budgets.alerts.raise_for(use) for use in _uses(budgets.usage, controls) if use.reached]
    alerts = [alert for alert in found if alert is not None]
    for alert in alerts:
        _log(alert)
    return [alert.sentence for alert in alerts]


def _uses(usage: UsageStore, controls: Controls) -> Iterator[BudgetUse]:
    """Every dollar budget, and how much of it is used now."""
    scopes = _scopes(usage, controls)
    reading = usage.window_usage(list(scopes))
    for scope, limits in scopes.items():
        for limit in limits:
            yield _use(scope, limit, reading)


def _scopes(usage: UsageStore, controls: Controls) -> dict[str, Sequence[Limit]]:
    """The scopes with a dollar budget: the named ones, and for `*` each scope with any usage."""
    keys = (each.key for each in controls.in_force() if each.most is not None)
    budgeted = {key.scope for key in keys if _is_budget(key)}
    kinds = [scope.partition(":")[0] for scope in budgeted if scope.endswith(f":{EACH}")]
    named = {scope for scope in budgeted if not scope.endswith(f":{EACH}")}
    named |= {scope for kind in kinds for scope in usage.scopes(kind)}
    return {scope: found for scope in sorted(named) if (found := _budgets(controls.limits, scope))}


def _budgets(limits: Limits, scope: str) -> tuple[Limit, ...]:
    return tuple(limit for limit in limits.of(scope) if _is_budget(limit))


def _is_budget(limit: Limit | LimitKey) -> bool:
    return limit.quantity == "dollars" and limit.window in BUDGET_WINDOWS


def _use(scope: str, limit: Limit, reading: UsageReading) -> BudgetUse:
    usage = reading.scopes[scope]
    settled = usage.settled[limit.window].amount
    window_id = reading.windows[limit.window]
    return BudgetUse(scope, limit, window_id, settled, usage.held.amount)


def _log(alert: BudgetAlert) -> None:
    write = log.error if alert.is_full else log.warning
    write(
        "budget alert",
        scope=alert.scope,
        window=alert.window_id,
        percent=alert.threshold,
        limit=alert.limit,
        settled=alert.settled,
        held=alert.held,
    )
