"""The budgets' part of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.budgets.alerts_store import Alerts
from fleet.budgets.upkeep_store import UsageUpkeep
from fleet.budgets.usage_store import UsageStore


@dataclass(frozen=True, slots=True)
class BudgetStores:
    """What scopes have used and reserved, the alerts that were raised, and what keeps both
    small."""

    usage: UsageStore
    alerts: Alerts
    upkeep: UsageUpkeep
