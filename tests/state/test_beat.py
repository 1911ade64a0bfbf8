"""Of several beats one works; a job may run twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from beat_schedules.jobs import ARCHIVE, BUDGETS, PRUNE, ROLL_UP, add_jobs
from beat_schedules.schedule import schedule
from fleet.runtime.app import Role, make_app
from fleet.services.connection import Connection, open_connection
from fleet.services.upkeep import last_health, reap, summarize_health
from fleet.settings import Settings
from fleet.state.beat import BeatLease


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def beat(fleet: Connection, owner: str) -> BeatLease:
    return BeatLease(fleet.client, fleet.keys, owner, 30)


def test_of_two_beats_one_has_the_lease(fleet: Connection) -> None:
    first, second = beat(fleet, "first"), beat(fleet, "second")
    assert first.hold()
    assert not second.hold()
    assert first.hold()


def test_a_beat_that_ends_lets_the_other_take_over(fleet: Connection) -> None:
    first, second = beat(fleet, "first"), beat(fleet, "second")
    first.hold()
    second.release()
    assert not second.hold()
    first.release()
    assert second.hold()


def test_a_lease_runs_out_by_itself(fleet: Connection, client: redis.Redis) -> None:
    beat(fleet, "first").hold()
    assert 0 < client.ttl(fleet.keys.beat) <= 30


def test_the_jobs_may_run_twice(fleet: Connection) -> None:
    fleet.registry.register("codegen-1", "codegen", 10, {})
    assert reap(fleet) == reap(fleet)
    assert summarize_health(fleet) == summarize_health(fleet)


def test_beat_looks_at_the_money_each_minute_hour_and_night(fleet: Connection) -> None:
    jobs = {job["task"]: job["schedule"] for job in schedule(fleet.settings).values()}
    assert jobs[ROLL_UP] == 3600
    assert (jobs[ARCHIVE].hour, jobs[ARCHIVE].minute) == ({0}, {17})
    assert jobs[BUDGETS] == 60
    assert (jobs[PRUNE].hour, jobs[PRUNE].minute) == ({0}, {47})
    add_jobs(app := make_app(fleet.settings, Role("", "")))
    assert set(jobs) <= set(app.tasks)


def test_the_health_summary_is_kept_with_its_age(fleet: Connection) -> None:
    assert last_health(fleet) == {}
    summarize_health(fleet)
    kept = last_health(fleet)
    assert 0 <= kept["age_seconds"] <= 2
    assert kept["verdict"] == "warning"
