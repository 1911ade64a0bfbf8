"""The jobs: each calls one service. Beat runs them itself; each may die anywhere and run again."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery

from fleet.broker.app import fleet_of
from fleet.broker.known_tasks import (
    ARCHIVE,
    BUDGETS,
    HEALTH,
    POOLS,
    PRUNE,
    REAP,
    RETAIN,
    ROLL_UP,
    SPEND,
    UNPARK,
)
from fleet.budgets.alerts import look_at_budgets
from fleet.budgets.controls import Controls
from fleet.ledger.daily_spend import daily_report
from fleet.ledger.spend import recorded_rows
from fleet.tasks.reaper import look_at_health, reap, retain, summarize_health
from fleet.tasks.waiting.release import release_due


def add_jobs(app: Celery) -> None:
    """Register the jobs with an application, and with no other one of the process."""
    job = partial(app.task, ignore_result=True, shared=False, runs_again=True)

    @job(name=REAP)
    def reap_the_dead() -> dict[str, list[str]]:
        return reap(fleet_of(app))

    @job(name=HEALTH)
    def sum_up_health() -> dict[str, Any]:
        return summarize_health(fleet_of(app))

    @job(name=POOLS)
    def look_at_the_pools() -> dict[str, list[str]]:
        return look_at_health(fleet_of(app))

    @job(name=ROLL_UP)
    def roll_up_the_ledger() -> int:
        return fleet_of(app).ledger.rollups.roll_up()

    @job(name=ARCHIVE)
    def archive_the_ledger() -> list[str]:
        # Imported here: of all that a worker does only this needs Arrow, and its 60 MB.
        from fleet.ledger.archive import archive

        return archive(fleet_of(app).ledger)

    @job(name=SPEND)
    def report_the_spend() -> dict[str, Any]:
        fleet = fleet_of(app)
        config, policy = fleet.settings.config, fleet.policy.store.read()
        return daily_report(config, policy, fleet.ledger, recorded_rows(fleet.ledger))

    @job(name=UNPARK)
    def bring_back_the_parked() -> list[str]:
        return release_due(fleet_of(app))

    @job(name=BUDGETS)
    def look_at_the_budgets() -> list[str]:
        fleet = fleet_of(app)
        controls = Controls(fleet.settings.config, fleet.policy.store.read())
        return look_at_budgets(controls, fleet.budgets)

    @job(name=PRUNE)
    def prune_the_book() -> int:
        return fleet_of(app).budgets.upkeep.prune()

    @job(name=RETAIN)
    def keep_memory_flat() -> dict[str, int]:
        return retain(fleet_of(app))
