"""The jobs: each calls one service. Beat runs them itself; each may die anywhere and run again."""

from __future__ import annotations

from typing import Any

from celery import Celery

from fleet.runtime.app import fleet_of
from fleet.services.budget_alerts import look_at_budgets
from fleet.services.daily_spend import daily_report
from fleet.services.parked import unpark
from fleet.services.retention import retain
from fleet.services.spend import recorded_rows
from fleet.services.upkeep import look_at_health, reap, summarize_health

REAP = "fleet.reap"
HEALTH = "fleet.health"
POOLS = "fleet.pools"
ROLL_UP = "fleet.rollup"
ARCHIVE = "fleet.ledger_archive"
SPEND = "fleet.spend"
UNPARK = "fleet.unpark"
BUDGETS = "fleet.budgets"
PRUNE = "fleet.prune"
RETAIN = "fleet.retain"


def add_jobs(app: Celery) -> None:
    """Register the jobs with an application."""

    @app.task(name=REAP, ignore_result=True)
    def reap_the_dead() -> dict[str, list[str]]:
        return reap(fleet_of(app))

    @app.task(name=HEALTH, ignore_result=True)
    def sum_up_health() -> dict[str, Any]:
        return summarize_health(fleet_of(app))

    @app.task(name=POOLS, ignore_result=True)
    def look_at_the_pools() -> dict[str, list[str]]:
        return look_at_health(fleet_of(app))

    @app.task(name=ROLL_UP, ignore_result=True)
    def roll_up_the_ledger() -> int:
        return fleet_of(app).rollups.roll_up()

    @app.task(name=ARCHIVE, ignore_result=True)
    def archive_the_ledger() -> list[str]:
        # Imported here: of all that a worker does only this needs Arrow, and its 60 MB.
        from fleet.services.ledger_archive import archive

        return archive(fleet_of(app))

    @app.task(name=SPEND, ignore_result=True)
    def report_the_spend() -> dict[str, Any]:
        fleet = fleet_of(app)
        return daily_report(fleet, recorded_rows(fleet))

    @app.task(name=UNPARK, ignore_result=True)
    def bring_back_the_parked() -> list[str]:
        return unpark(fleet_of(app))

    @app.task(name=BUDGETS, ignore_result=True)
    def look_at_the_budgets() -> list[str]:
        return look_at_budgets(fleet_of(app))

    @app.task(name=PRUNE, ignore_result=True)
    def prune_the_book() -> int:
        return fleet_of(app).money_upkeep.prune()

    @app.task(name=RETAIN, ignore_result=True)
    def keep_memory_flat() -> dict[str, int]:
        return retain(fleet_of(app))
