"""Gathers what was spent and what may be, and has it analysed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from fleet.budgets.controls import Controls, configured_limits
from fleet.budgets.rules.limits import LimitKey
from fleet.connection import Connection
from fleet.errors import InvalidRequest
from fleet.ledger.period import Period, today_of
from fleet.ledger.rules.back_test import Score, back_test, scores
from fleet.ledger.rules.days import days_between, shifted
from fleet.ledger.rules.projection import HISTORY_DAYS, Projection, project
from fleet.ledger.rules.spend import Analysis, Limits, analyse, daily_totals
from fleet.ledger.rules.spend_rows import SpendRow
from fleet.policy.store import Policy
from fleet.settings import Settings
from fleet.settings.config import FleetConfig
from fleet.settings.names import ALL
from fleet.tasks.checks import unknown

Rows = Callable[[str, str], Sequence[SpendRow]]
"""The rows of the days from a first to a last one, both included, as YYYYMMDD."""

SEED = 1
"""The projection draws lots: the same spend always gets the same one."""
BACK_TEST_DAYS = 400
"""A year of whole months, and some days to learn from before the first."""


@dataclass(frozen=True, slots=True)
class SpendReport:
    """The analysis of a period, and the projection of the month of its last day.

    `made_at` is in seconds since 1970, by Redis's clock. Amounts are nano-dollars. With
    `open_day` the last day had not ended then. The limits of one tenant's spend are its own where
    it has any, else those of all tenants.
    """

    made_at: int
    tenant: str | None
    open_day: bool
    limits: Limits
    analysis: Analysis
    projection: Projection


@dataclass(frozen=True, slots=True)
class BackTest:
    """How well the months of the days from `first` to `last` would have been projected."""

    first: str
    last: str
    tenant: str | None
    scores: tuple[Score, ...]


def recorded_rows(connection: Connection) -> Rows:
    """The rows of a fleet's roll-ups, which are brought up to date first."""

    def rows(first: str, last: str) -> Sequence[SpendRow]:
        days = (date.fromisoformat(first), date.fromisoformat(last))
        return connection.rollups.rows(*days)

    return rows


def limits_of(config: FleetConfig, policy: Policy, tenant: str | None = None) -> Limits:
    """The limits in force of everything, or those of a tenant where it has its own, in
    nano-dollars.

    In place of a limit of everything that was lifted the configured one: so much was planned.
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
    return Limits(daily, monthly, daily_scope, monthly_scope)


def spend_report(
    fleet: Connection, rows: Rows, period: Period, tenant: str | None = None
) -> SpendReport:
    """Analyse a period, of all tenants or one. Raises `InvalidRequest` for an unknown tenant."""
    _check_tenant(fleet.settings, tenant)
    start = min(period.first, shifted(period.last, -HISTORY_DAYS))  # holds the month too
    found = _rows_of(rows(start, period.last), tenant)
    history = days_between(start, period.last)
    limits = limits_of(fleet.settings.config, fleet.policies.read(), tenant)
    return SpendReport(
        made_at=today_of(fleet.client)[1],
        tenant=tenant,
        open_day=period.open_day,
        limits=limits,
        analysis=analyse(
            [row for row in found if row.period[:8] >= period.first],
            period.days,
            limits,
            period.open_day,
        ),
        projection=project(
            history, daily_totals(found, history), np.random.default_rng(SEED), period.open_day
        ),
    )


def tested_projection(fleet: Connection, rows: Rows, tenant: str | None = None) -> BackTest:
    """Test the projection on the past months that are on record, up to thirteen months back."""
    _check_tenant(fleet.settings, tenant)
    yesterday = shifted(today_of(fleet.client)[0], -1)
    start = shifted(yesterday, -BACK_TEST_DAYS)
    days = days_between(start, yesterday)
    amounts = daily_totals(_rows_of(rows(start, yesterday), tenant), days)
    hits = back_test(days, amounts, np.random.default_rng(SEED))
    return BackTest(start, yesterday, tenant, scores(hits))


def _rows_of(rows: Sequence[SpendRow], tenant: str | None) -> list[SpendRow]:
    return [row for row in rows if tenant is None or row.tenant == tenant]


def _check_tenant(settings: Settings, tenant: str | None) -> None:
    """Where tenants are configured, only those are known; else any name is."""
    known = settings.config.tenants
    if tenant is not None and known and tenant not in known:
        raise InvalidRequest(unknown("tenant", tenant, frozenset(known)))
