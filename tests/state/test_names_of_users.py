"""Tasks of a user's whose names begin as Fleet's do are plain tasks everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, group

from beat_schedules.jobs import add_jobs
from beat_schedules.schedule import schedule
from fleet.beat.scheduler import LeasedScheduler
from fleet.broker.app import add_schedule, make_app
from fleet.broker.known_tasks import JOBS, REAP
from fleet.errors import InvalidRequest, NoAgentAvailable
from fleet.settings import Settings
from fleet.tasks.connection import open_connection

NAMES = ("agents.report", "agents.code_generator.late", "agents.", "fleet.cars", "fleet.reaper")


@pytest.fixture
def app(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Iterator[Celery]:
    settings = settings_of("")
    open_connection(settings).routing.agents.register("codegen-1", "codegen", 4, {})
    with make_app(settings, set_as_current=False) as found:
        yield found


def queued(client: redis.Redis, queue: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in client.lrange(queue, 0, -1)]


@pytest.mark.parametrize("name", NAMES)
def test_a_publisher_sends_them_as_they_are(app: Celery, client: redis.Redis, name: str) -> None:
    app.conf.task_default_queue = "shop"
    app.send_task(name, args=(1, 2), kwargs={"three": 3}, ignore_result=True)
    (message,) = queued(client, "shop")
    assert message["headers"]["task"] == name
    assert "fleet" not in message["headers"]
    assert not client.exists("{fleet}:tasks")


def test_a_header_of_fleets_name_is_its_publishers_own(app: Celery, client: redis.Redis) -> None:
    app.send_task("shop.bill", headers={"fleet": "of ships"}, ignore_result=True)
    (message,) = queued(client, "{fleet}.jobs")
    assert message["headers"]["fleet"] == "of ships"


def test_such_a_header_gets_no_task_out_of_a_group_that_is_refused(
    app: Celery, client: redis.Redis
) -> None:
    client.flushall()
    own = app.signature("shop.bill").set(headers={"fleet": "of ships"})
    agents = app.signature("agents.code_generator", args=[{"instruction": "add"}])
    with pytest.raises(NoAgentAvailable):
        group([own, agents], app=app).apply_async()
    assert queued(client, "{fleet}.jobs") == []


def test_a_configured_agent_type_is_fleets_and_checked(app: Celery) -> None:
    with pytest.raises(InvalidRequest, match="takes its payload as its one argument"):
        app.send_task("agents.code_generator", args=(1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_beat_sends_them_to_workers_and_runs_none_itself(
    app: Celery, client: redis.Redis, name: str
) -> None:
    ran = []

    @app.task(name=name, shared=False)
    def mine() -> None:
        ran.append(name)

    app.conf.task_routes = {name: "shop"}
    app.conf.beat_schedule = {"mine": {"task": name, "schedule": 0.01}}
    beat = LeasedScheduler(app)
    assert beat.lease.hold()
    beat.apply_async(beat.schedule["mine"], advance=False)
    beat.jobs.wait(60)
    assert [each["headers"]["task"] for each in queued(client, "shop")] == [name]
    assert ran == []


def test_a_users_schedule_runs_beside_fleets_jobs(app: Celery) -> None:
    settings = app.fleet.settings
    add_jobs(app)
    add_schedule(app, schedule(settings))
    assert set(JOBS) == {entry["task"] for entry in app.conf.beat_schedule.values()}
    app.conf.beat_schedule = {"mine": {"task": "shop.bill", "schedule": 60}}
    scheduler = LeasedScheduler(app)
    assert {"shop.bill", REAP} <= {entry.task for entry in scheduler.schedule.values()}
    assert app.conf.beat_scheduler == "fleet.beat.scheduler:LeasedScheduler"
