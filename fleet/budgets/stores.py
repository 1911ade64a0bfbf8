"""The budgets' part of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.budgets.alerts_store import Alerts
from fleet.budgets.upkeep_store import UsageUpkeep
from fleet.budgets.usage_store import UsageStore


@dataclass(frozen=True, slots=True)
class BudgetStores:
    """The usage counters and reservations, the alerts, and the upkeep of both."""

    usage: UsageStore
    alerts: Alerts
    upkeep: UsageUpkeep
