"""The spend report: gathers spending and limits, and analyses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from fleet.budgets.controls import Controls, configured_limits
from fleet.errors import InvalidRequest
from fleet.ledger.period import Period
from fleet.ledger.rules.days import days_between, shifted
from fleet.ledger.rules.projection import RECENT_DAYS, Projection, project
from fleet.ledger.rules.spend import Analysis, SpendLimits, analyse, daily_totals
from fleet.ledger.rules.spend_rows import SpendRow
from fleet.ledger.stores import LedgerStores
from fleet.policy.rules import LimitKey
from fleet.policy.store import Policy
from fleet.settings.config import FleetConfig
from fleet.settings.names import ALL
from fleet.text import unknown

ReadRows = Callable[[str, str], Sequence[SpendRow]]
"""Reads the rows from a first to a last day, both included, as YYYYMMDD."""


@dataclass(frozen=True, slots=True)
class SpendReport:
    """The analysis of a period, and the projection of the month of its last day.

    `made_at` is in seconds since 1970, by Redis's clock. Amounts are nano-dollars. With `open_day`
    the last day had not ended then. The limits for one tenant's spend are its own, or those of all
    tenants if it has none.
    """

    made_at: int
    tenant: str | None
    open_day: bool
    limits: SpendLimits
    analysis: Analysis
    projection: Projection


def recorded_rows(ledger: LedgerStores) -> ReadRows:
    """Reads the rows of a fleet's roll-ups, after updating them."""

    def rows(first: str, last: str) -> Sequence[SpendRow]:
        days = (date.fromisoformat(first), date.fromisoformat(last))
        return ledger.rollups.rows(*days)

    return rows


def limits_of(config: FleetConfig, policy: Policy, tenant: str | None = None) -> SpendLimits:
    """The limits in force for all, or for a tenant with limits of its own, in nano-dollars.

    A lifted limit for all is replaced by the configured one, which is the planned amount.
    """
    planned = configured_limits(config)
    found = {
        window: (policy.limits.get(key) or planned[key], ALL)
        for window in ("day", "month")
        for key in (LimitKey(ALL, window, "dollars"),)
    }
    if tenant is not None:
        scope = f"tenant:{tenant}"
        own = Controls(config, policy).limits.of(scope)
        found |= {each.window: (each.most, scope) for each in own if each.quantity == "dollars"}
    (daily, daily_scope), (monthly, monthly_scope) = found["day"], found["month"]
    return SpendLimits(daily, monthly, daily_scope, monthly_scope)


def spend_report(
    config: FleetConfig,
    policy: Policy,
    rows: ReadRows,
    period: Period,
    tenant: str | None = None,
    *,
    made_at: int,
) -> SpendReport:
    """Analyse a period for all tenants or one. Raises `InvalidRequest` for an unknown tenant."""
    _check_tenant(config, tenant)
    start = min(period.first, f"{period.last[:6]}01", shifted(period.last, -RECENT_DAYS))
    found = _rows_of(rows(start, period.last), tenant)
    history = days_between(start, period.last)
    limits = limits_of(config, policy, tenant)
    return SpendReport(
        made_at=made_at,
        tenant=tenant,
        open_day=period.open_day,
        limits=limits,
        analysis=analyse(
            [row for row in found if row.period[:8] >= period.first],
            period.days,
            limits,
            period.open_day,
        ),
        projection=project(history, daily_totals(found, history), period.open_day),
    )


def _rows_of(rows: Sequence[SpendRow], tenant: str | None) -> list[SpendRow]:
    return [row for row in rows if tenant is None or row.tenant == tenant]


def _check_tenant(config: FleetConfig, tenant: str | None) -> None:
    """If tenants are configured, only these are known. Otherwise any name is allowed."""
    known = config.tenants
    if tenant is not None and known and tenant not in known:
        raise InvalidRequest(unknown("tenant", tenant, frozenset(known)))
