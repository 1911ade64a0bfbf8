"""The jobs of beat. Each calls one function, may be killed at any point, and can run again."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from celery import Celery

from fleet.broker.app import fleet_of
from fleet.broker.known_tasks import (
    ANCHOR,
    ARCHIVE,
    BUDGETS,
    HEALTH,
    POOLS,
    PRUNE,
    REAP,
    RETAIN,
    ROLL_UP,
    ROTATE,
    RUNS_AGAIN,
    SCALE,
    SPEND,
    UNPARK,
)
from fleet.budgets.alerts import look_at_budgets
from fleet.budgets.controls import Controls
from fleet.ledger.daily_spend import daily_report
from fleet.ledger.spend import recorded_rows
from fleet.secrets.anchor import anchors_of, move_anchor
from fleet.tasks.reaper import look_at_health, reap, retain, summarize_health
from fleet.tasks.waiting.release import release_due

if TYPE_CHECKING:
    from fleet.scaling.service import Scaler
    from fleet.secrets.rotation import Rotations


def add_jobs(app: Celery) -> None:
    """Register the jobs with this application only."""
    job = partial(app.task, ignore_result=True, shared=False, **RUNS_AGAIN)

    @job(name=REAP)
    def reap_dead_agents() -> dict[str, list[str]]:
        return reap(fleet_of(app))

    @job(name=HEALTH)
    def summarize() -> dict[str, Any]:
        return summarize_health(fleet_of(app))

    @job(name=POOLS)
    def judge_pools() -> dict[str, list[str]]:
        return look_at_health(fleet_of(app))

    @cache
    def scaler() -> Scaler:
        # Imported here because workers, which do not run the job, start sooner without it.
        from fleet.scaling.service import Scaler

        return Scaler(fleet_of(app))

    @job(name=SCALE)
    def scale_pools() -> dict[str, int]:
        return scaler().scale()

    @job(name=ROLL_UP)
    def roll_up_ledger() -> int:
        return fleet_of(app).ledger.rollups.roll_up()

    @job(name=ARCHIVE)
    def archive_ledger() -> list[str]:
        # Imported here because only this job needs Arrow, which takes 60 MB.
        from fleet.ledger.archive import archive

        return archive(fleet_of(app).ledger)

    @job(name=SPEND)
    def report_spend() -> dict[str, Any]:
        fleet = fleet_of(app)
        config, policy = fleet.settings.config, fleet.policy.store.read()
        return daily_report(config, policy, fleet.ledger, recorded_rows(fleet.ledger))

    @job(name=UNPARK)
    def release_on_hold() -> list[str]:
        return release_due(fleet_of(app))

    @job(name=BUDGETS)
    def check_budgets() -> list[str]:
        fleet = fleet_of(app)
        controls = Controls(fleet.settings.config, fleet.policy.store.read())
        return look_at_budgets(controls, fleet.budgets)

    @job(name=PRUNE)
    def prune_usage_counters() -> int:
        return fleet_of(app).budgets.upkeep.prune()

    @job(name=ANCHOR)
    def anchor_audit() -> int:
        fleet = fleet_of(app)
        return len(move_anchor(fleet.policy.audit, anchors_of(fleet.secrets)))

    @cache
    def rotations() -> Rotations:
        # Imported here because workers, which do not run the job, start sooner without it.
        from fleet.secrets.configured_rotations import rotations_of

        fleet = fleet_of(app)
        return rotations_of(fleet.settings, fleet.rotations, fleet.secrets, fleet.policy.audit)

    @job(name=ROTATE)
    def rotate_secrets() -> dict[str, list[str]]:
        return rotations().work() if fleet_of(app).settings.config.secrets.rotation else {}

    @job(name=RETAIN)
    def expire_old_records() -> dict[str, int]:
        return retain(fleet_of(app))
