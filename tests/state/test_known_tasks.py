"""Fleet's tasks in an application that sends them, and cannot run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery, chain, group

from fleet.broker.app import Role, make_app
from fleet.broker.known_tasks import add_seen_tasks, forget_known_tasks
from fleet.errors import InvalidRequest
from fleet.settings import Settings
from fleet.worker.agent_tasks import add_agent_tasks

AGENT = "agents.code_generator"
PAYLOAD = {"instruction": "add"}


@pytest.fixture
def settings(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of("")


@pytest.fixture(params=["a publisher's", "a worker's"])
def app(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Celery]:
    with make_app(settings, set_as_current=False) as found:
        if request.param == "a worker's":
            add_agent_tasks(found, Role())
        found.fleet.routing.agents.register("codegen-1", "codegen", 4, {})
        yield found


def test_they_are_sent_by_every_way_of_celerys(app: Celery) -> None:
    task = app.tasks[AGENT]
    sent = [
        task.delay(PAYLOAD, tenant="acme"),
        task.apply_async(args=[PAYLOAD]),
        task.s(PAYLOAD).apply_async(),
        app.signature(AGENT, args=[PAYLOAD]).delay(),
        *group([task.s(PAYLOAD)], app=app).apply_async().results,
    ]
    for each in sent:
        assert app.fleet.tasks.records.state(each.id) == "queued"
        each.forget()
    assert app.fleet.tasks.records.read(sent[0].id).tenant == "acme"
    with pytest.raises(InvalidRequest, match="takes its payload as its one argument"):
        task.delay(PAYLOAD, PAYLOAD)


def test_they_do_not_run_where_they_are_sent(app: Celery, client: redis.Redis) -> None:
    task = app.tasks[AGENT]
    before = set(client.keys())
    for run in (
        lambda: task.apply(args=[PAYLOAD]),
        lambda: task.s(PAYLOAD).apply(),
        lambda: chain(task.s(PAYLOAD), app=app).apply(),
    ):
        with pytest.raises(InvalidRequest, match="send it by apply_async"):
            run()
    app.conf.task_always_eager = True
    with pytest.raises(InvalidRequest, match="task_always_eager"):
        task.delay(PAYLOAD)
    assert set(client.keys()) == before


def test_a_worker_that_is_no_agent_does_not_have_them(settings: Settings) -> None:
    app = make_app(settings, set_as_current=False)
    assert {AGENT, "fleet.reap"} <= set(app.tasks)
    forget_known_tasks(app)
    assert not {AGENT, "fleet.reap"} & set(app.tasks)


def test_a_monitor_knows_what_it_has_seen(settings: Settings, client: redis.Redis) -> None:
    app, seen = make_app(settings, set_as_current=False), {"shop.bill"}
    add_seen_tasks(app, lambda: seen)
    assert "shop.bill" in app.tasks
    assert "shop.other" not in app.tasks
    app.tasks["shop.bill"].apply_async(args=[1, 2], ignore_result=True)
    assert client.llen("{fleet}.jobs") == 1
    with pytest.raises(KeyError):
        app.tasks["shop.other"]
