"""Of several beats one works; a job may run twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import redis
from celery import Celery
from celery.schedules import crontab

from beat_schedules.jobs import add_jobs
from beat_schedules.schedule import schedule
from fleet.beat.scheduler import JobThreads, LeasedScheduler
from fleet.beat.store import BeatLease
from fleet.broker.app import Role, make_app
from fleet.broker.known_tasks import (
    ARCHIVE,
    BUDGETS,
    HEALTH,
    JOBS,
    PRUNE,
    ROLL_UP,
    is_plain,
)
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import last_health, reap, summarize_health
from fleet.worker.agent_tasks import add_agent_tasks

DAILY, OFTEN = ARCHIVE, HEALTH


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


def test_a_job_begins_once_however_many_beats_want_it(fleet: Connection) -> None:
    first, second = beat(fleet, "first"), beat(fleet, "second")
    first.hold()
    assert second.begin("job", "") == ""
    begun = first.begin("job", "")
    assert begun
    assert first.begin("job", "") == ""
    first.release()
    second.hold()
    assert second.begin("job", "") == ""
    assert second.runs()["job"].name == begun
    assert 0 <= second.runs()["job"].seconds_ago < 5
    assert second.begin("job", begun)


class Beats:
    """Beats of one fleet with a job a minute and one at midnight, and how often they ran."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ran: list[str] = []

    def new(self, owner: str) -> LeasedScheduler:
        app = make_app(self.settings, Role("", ""))
        for name in (OFTEN, DAILY):
            self.add(app, name)
        app.conf.beat_schedule = {
            "often": {"task": OFTEN, "schedule": 60},
            "daily": {"task": DAILY, "schedule": crontab(hour=0, minute=0)},
        }
        made = LeasedScheduler(app)
        made.lease.owner = owner
        return made

    def add(self, app: Celery, name: str) -> None:
        @app.task(name=name, shared=False)
        def job() -> None:
            self.ran.append(name)

    def tick(self, scheduler: LeasedScheduler) -> list[str]:
        """What ran in some ticks, each of which begins one job at most."""
        self.ran.clear()
        for _ in range(4):
            scheduler.tick()
        scheduler.jobs.wait(60)
        return sorted(self.ran)


@pytest.fixture
def beats(fleet: Connection) -> Beats:
    return Beats(fleet.settings)


def long_ago(scheduler: LeasedScheduler) -> None:
    for entry in scheduler.schedule.values():
        entry.last_run_at -= timedelta(days=2)


def test_a_beat_that_takes_over_goes_on_where_the_other_one_died(
    beats: Beats, fleet: Connection, client: redis.Redis
) -> None:
    first, second = beats.new("first"), beats.new("second")
    for each in (first, second):
        # Both have stood there for days, so that by their own reckoning all is due.
        long_ago(each)
    assert beats.tick(first) == [OFTEN, DAILY]
    assert beats.tick(second) == []
    client.delete(fleet.keys.beat)
    assert beats.tick(second) == []
    assert beats.tick(first) == []
    client.hincrby(fleet.keys.beat_runs, "often", -61_000)
    client.delete(fleet.keys.beat)
    assert beats.tick(first) == [OFTEN]


def test_a_beat_that_stood_still_past_its_lease_begins_nothing(
    beats: Beats, fleet: Connection, client: redis.Redis
) -> None:
    late, other = beats.new("late"), beats.new("other")
    assert late.lease.hold()
    client.delete(fleet.keys.beat)
    assert other.lease.hold()
    # It stood still after it had made sure of its lease.
    entry = late.schedule["often"]
    late.apply_async(entry, advance=False)
    late.jobs.wait(60)
    assert beats.ran == []


def test_a_job_that_fails_or_is_still_running_harms_no_other() -> None:
    jobs, go, ended = JobThreads(), threading.Event(), threading.Event()
    jobs.start("slow", lambda: go.wait(60))
    jobs.start("bad", lambda: 1 / 0)
    jobs.start("good", ended.set)
    assert ended.wait(60)
    assert jobs.is_running("slow")
    go.set()
    jobs.wait(60)
    assert not any(map(jobs.is_running, ("slow", "bad", "good")))


def test_the_jobs_may_run_twice(fleet: Connection) -> None:
    fleet.routing.agents.register("codegen-1", "codegen", 10, {})
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


def test_only_the_tasks_of_users_are_waited_for_when_a_worker_exits(fleet: Connection) -> None:
    role = Role("codegen", "codegen-1")
    app = make_app(fleet.settings, role, set_as_current=False)
    add_jobs(app)
    add_agent_tasks(app, role)

    @app.task(name="users.own", shared=False)
    def own() -> None:
        pass

    plain = {name for name, task in app.tasks.items() if is_plain(task)}
    assert "users.own" in plain
    assert not plain & {*JOBS, "agents.code_generator"}


def test_the_health_summary_is_kept_with_its_age(fleet: Connection) -> None:
    assert last_health(fleet) == {}
    summarize_health(fleet)
    kept = last_health(fleet)
    assert 0 <= kept["age_seconds"] <= 2
    assert kept["verdict"] == "warning"
