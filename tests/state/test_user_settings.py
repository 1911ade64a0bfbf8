"""A user's Celery settings lie over Fleet's, or are an error: none switches the fleet off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Queue

from fleet.broker.app import Role, make_app
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

AGENT = "agents.code_generator"
PAYLOAD = {"instruction": "add two numbers"}
OURS = {"queue": "shop"}


@pytest.fixture
def settings(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Settings:
    found = settings_of("")
    open_connection(found).routing.agents.register("codegen-1", "codegen", 4, {})
    return found


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    with make_app(settings, set_as_current=False) as found:
        yield found


def is_placed(app: Celery, client: redis.Redis) -> bool:
    """Whether an agent's task is in its pool's queue, with a slot and a record."""
    connection: Connection = app.fleet
    sent = app.send_task(AGENT, args=[PAYLOAD], ignore_result=True)
    (text,) = client.lrange("{fleet}.codegen", 0, -1)
    holds_slot = client.sismember(connection.keys.pool("codegen").in_flight, sent.id)
    return json.loads(text)["headers"]["id"] == sent.id and bool(holds_slot)


def shops(client: redis.Redis, queue: str = "shop") -> list[str]:
    return [json.loads(text)["headers"]["task"] for text in client.lrange(queue, 0, -1)]


def as_route(name: str, *_: Any, **__: Any) -> dict[str, str] | None:
    return OURS if name.startswith(("shop.", "agents.")) else None


ROUTES = [
    {"shop.*": OURS, "*": OURS},
    {"shop.bill": "shop"},
    {re.compile(r"(shop|agents)\..*"): OURS},
    [[("shop.*", OURS), ("agents.*", OURS)]],
    ([("*", OURS)],),
    [{"agents.*": OURS}, {"shop.*": OURS}],
    as_route,
    (as_route,),
    "test_user_settings:as_route",
    ["test_user_settings:as_route"],
]


class Routes:
    def route_for_task(self, name: str, *_: Any, **__: Any) -> str:
        return "shop"


UNREADABLE = [
    ("task_routes", 5),
    ("task_routes", "no.such.module"),
    ("task_routes", [(re.compile("x"), OURS)]),
    ("task_queues", ["shop"]),
    ("broker_transport_options", None),
    ("broker_transport_options", "x"),
    ("broker_transport_options", {"visibility_timeout": "x"}),
    ("broker_transport_options", {"visibility_timeout": None}),
    ("broker_transport_options", {"visibility_timeout": float("nan")}),
    ("broker_transport_options", {"priority_steps": 5}),
    ("result_backend_transport_options", None),
    ("result_backend_transport_options", {"retry_policy": 5}),
]


@pytest.mark.parametrize(("name", "value"), UNREADABLE)
def test_a_setting_that_cannot_be_read_is_said(app: Celery, name: str, value: Any) -> None:
    setattr(app.conf, name, value)
    with pytest.raises(InvalidConfig, match=name):
        app.send_task(AGENT, args=[PAYLOAD])


@pytest.mark.parametrize("routes", [Routes(), lambda *_, **__: "shop", [Routes()]])
def test_a_route_may_be_the_name_of_a_queue(
    app: Celery, client: redis.Redis, routes: Any
) -> None:
    app.conf.task_routes = routes
    app.send_task("shop.bill", ignore_result=True)
    assert shops(client) == ["shop.bill"]
    assert is_placed(app, client)


def by_attribute(app: Celery, name: str, value: Any) -> None:
    setattr(app.conf, name, value)


def by_update(app: Celery, name: str, value: Any) -> None:
    app.conf.update({name: value})


def by_object(app: Celery, name: str, value: Any) -> None:
    app.config_from_object(SimpleNamespace(**{name: value}))


def by_namespace(app: Celery, name: str, value: Any) -> None:
    source = SimpleNamespace(**{f"CELERY_{name.upper()}": value})
    app.config_from_object(source, namespace="CELERY")


def by_object_once_read(app: Celery, name: str, value: Any) -> None:
    assert app.conf.task_default_queue == "{fleet}.jobs"
    app.config_from_object(SimpleNamespace(**{name: value}))


def by_update_once_sent(app: Celery, name: str, value: Any) -> None:
    app.send_task("shop.before", ignore_result=True)
    app.conf.update({name: value})


WAYS = [by_attribute, by_update, by_object, by_namespace, by_object_once_read]


@pytest.mark.parametrize("routes", ROUTES, ids=[str(number) for number in range(len(ROUTES))])
def test_routes_of_every_form_are_the_users_for_all_but_fleets_tasks(
    app: Celery, client: redis.Redis, routes: Any
) -> None:
    app.conf.task_routes = routes
    app.send_task("shop.bill", ignore_result=True)
    assert shops(client) == ["shop.bill"]
    assert is_placed(app, client)
    assert shops(client) == ["shop.bill"]


@pytest.mark.parametrize("way", [*WAYS, by_update_once_sent], ids=lambda way: way.__name__)
def test_routes_hold_however_they_are_set(
    app: Celery, client: redis.Redis, way: Callable[[Celery, str, Any], None]
) -> None:
    way(app, "task_routes", {"*": OURS})
    app.send_task("shop.bill", ignore_result=True)
    assert shops(client) == ["shop.bill"]
    assert is_placed(app, client)


def test_a_route_keeps_what_it_says_beside_the_place(app: Celery, client: redis.Redis) -> None:
    app.conf.task_routes = {"agents.*": {"queue": "shop", "priority": 9}}
    app.send_task(AGENT, args=[PAYLOAD], ignore_result=True)
    assert shops(client) == []
    (text,) = client.lrange("{fleet}.codegen", 0, -1)
    message = json.loads(text)
    assert message["headers"]["task"] == AGENT
    assert message["properties"]["priority"] == message["headers"]["fleet"]["priority"] == 9


def test_a_route_that_names_an_agents_task_and_its_queue_is_an_error(app: Celery) -> None:
    app.conf.task_routes = {AGENT: "shop"}
    with pytest.raises(InvalidConfig, match=f"task_routes: {re.escape(AGENT)} is placed by"):
        app.send_task("shop.bill", ignore_result=True)
    with pytest.raises(InvalidConfig, match="task_routes"):
        app.check_all()


def test_an_agents_task_that_is_sent_to_a_plain_queue_is_refused(
    app: Celery, client: redis.Redis
) -> None:
    with pytest.raises(InvalidRequest, match="queue shop is not one of the fleet's"):
        app.send_task(AGENT, args=[PAYLOAD], queue="shop")
    app.conf.task_annotations = {"*": {"queue": "shop"}}
    with pytest.raises(InvalidRequest, match="queue out, also in task_annotations"):
        app.tasks[AGENT].delay(PAYLOAD)
    assert shops(client) == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_transport_options_lie_over_fleets(
    app: Celery, client: redis.Redis, way: Callable[[Celery, str, Any], None]
) -> None:
    way(app, "broker_transport_options", {"visibility_timeout": 3600, "max_connections": 7})
    assert is_placed(app, client)
    with app.connection_for_write() as connection:
        options = connection.transport_options
        assert options["max_connections"] == 7
        assert options["visibility_timeout"] == 3600
        assert options["socket_timeout"] == 5.0
        assert options["unacked_key"] == app.fleet.keys.pool("none").unacked


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("broker_transport_options", {"global_keyprefix": "shop_"}, "global_keyprefix would put"),
        ("broker_transport_options", {"sep": ":"}, "sep would put messages"),
        ("broker_transport_options", {"priority_steps": [0, 9]}, "priority_steps would put"),
        ("broker_transport_options", {"unacked_key": "mine"}, "unacked_key is set by Fleet"),
        ("broker_transport_options", {"fleet": None}, "fleet is set by Fleet"),
        ("broker_transport_options", {"visibility_timeout": 1}, "must be 30 or more"),
        ("broker_url", "redis://127.0.0.1:1/0", "names another broker than the fleet's"),
        ("broker_url", ["redis://127.0.0.1:1/0"], "names another broker than the fleet's"),
        ("broker_write_url", "amqp://shop:geheim@127.0.0.1//", "broker_write_url"),
        ("broker_transport", "redis", "Fleet has a transport of its own"),
        ("task_protocol", 1, "need Celery's protocol 2"),
    ],
)
def test_a_setting_that_would_break_the_fleet_is_an_error_before_anything_is_sent(
    app: Celery, client: redis.Redis, setting: str, value: Any, words: str
) -> None:
    before = client.dbsize()
    by_namespace(app, setting, value)
    with pytest.raises(InvalidConfig, match=words) as raised:
        app.send_task(AGENT, args=[PAYLOAD], ignore_result=True)
    assert "geheim" not in str(raised.value)
    assert client.dbsize() == before


def test_a_broker_in_celerys_variable_is_held_against_fleets(
    app: Celery, client: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(InvalidConfig, match="CELERY_BROKER_URL"):
        app.send_task("shop.bill", ignore_result=True)
    # The same one in other words is no other broker, and is reached over Fleet's transport.
    monkeypatch.setenv("CELERY_BROKER_URL", valkey_url)
    assert is_placed(app, client)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_serializer", "pickle"),
        ("task_default_queue", "shop"),
        ("task_queues", [Queue("shop")]),
        ("task_queues", {"shop": {"exchange": "shop"}}),
        ("task_create_missing_queues", False),
        ("task_default_exchange_type", "fanout"),
        ("task_default_exchange", "shop"),
        ("task_default_priority", 3),
        ("task_acks_late", False),
        ("task_compression", "gzip"),
        ("worker_prefetch_multiplier", 8),
        ("result_backend", "rpc://"),
        ("accept_content", ["json", "pickle"]),
        ("task_annotations", {"*": {"rate_limit": "10/s"}}),
        ("result_backend_transport_options", {"global_keyprefix": "shop_"}),
        ("enable_utc", False),
        ("timezone", "Asia/Tokyo"),
    ],
)
def test_an_agents_task_is_placed_whatever_else_is_set(
    app: Celery, client: redis.Redis, setting: str, value: Any
) -> None:
    by_attribute(app, setting, value)
    assert is_placed(app, client)
    (text,) = client.lrange("{fleet}.codegen", 0, -1)
    assert json.loads(text)["content-type"] == "application/json"


def test_a_users_queues_and_default_queue_hold_for_plain_tasks(
    app: Celery, client: redis.Redis
) -> None:
    app.conf.task_queues = [Queue("shop", routing_key="shop")]
    app.conf.task_default_queue = "shop"
    app.conf.task_create_missing_queues = False
    app.send_task("shop.bill", ignore_result=True)
    assert shops(client) == ["shop.bill"]
    assert is_placed(app, client)


def test_what_a_worker_serves_is_the_users_and_for_an_agent_its_pools(settings: Settings) -> None:
    def served(role: Role, **conf: Any) -> set[str]:
        app = make_app(settings, role, set_as_current=False)
        app.conf.update(conf)
        return set(app.amqp.queues.consume_from)

    plain, agent = Role(), Role("codegen", "codegen-1")
    own = {"{fleet}.jobs", "{fleet}.codegen", "{fleet}.overflow.code_generator"}
    assert served(plain) == {"{fleet}.jobs"}
    assert served(plain, task_default_queue="shop") == {"shop"}
    assert served(plain, task_queues=[Queue("a"), Queue("b")]) == {"a", "b"}
    assert served(agent) >= own
    assert served(agent, task_default_queue="shop") >= own | {"shop"}
    assert served(agent, task_queues=[Queue("a")]) >= own | {"a"}


def test_options_of_the_result_store_lie_over_fleets(app: Celery) -> None:
    app.conf.result_backend_transport_options = {
        "global_keyprefix": "shop_",
        "retry_policy": {"max_retries": 3},
    }
    assert app.backend.task_keyprefix == b"shop_celery-task-meta-"
    assert app.backend.retry_policy["timeout"] == 20.0
    assert app.backend.retry_policy["max_retries"] == 3
