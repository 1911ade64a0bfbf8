"""Fleet's routes in an application of stock Celery, over a broker that knows nothing of Fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Consumer, Queue

from fleet.broker.app import task_routes
from fleet.errors import InvalidRequest, NoAgentAvailable
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

AGENT, QUEUE = "agents.code_generator", "{fleet}.codegen"
PAYLOAD = {"instruction": "add"}


@pytest.fixture
def settings(settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of('[pools.codegen]\nagent_type = "code_generator"\nslots = 2')


@pytest.fixture
def fleet(client: redis.Redis, settings: Settings) -> Connection:
    return open_connection(settings)


@pytest.fixture(params=["memory://", "redis"])
def shop(
    fleet: Connection, settings: Settings, valkey_url: str, request: pytest.FixtureRequest
) -> Iterator[Celery]:
    broker = valkey_url if request.param == "redis" else request.param
    with Celery("shop", broker=broker, set_as_current=False) as app:
        app.conf.task_routes = task_routes(settings)
        yield app


def taken(app: Celery, queue: str) -> list[tuple[str, Any, str]]:
    """The tasks in a queue: name, arguments and what is asked of Fleet."""
    got: list[tuple[str, Any, str]] = []

    def take(body: Any, message: Any) -> None:
        asked = message.headers.get("fleet") or {}
        got.append((message.headers["task"], body[0], asked.get("tenant", "")))
        message.ack()

    broker = app.connection_for_read()
    with broker, Consumer(broker, [Queue(queue)], callbacks=[take], accept=["json"]):
        while not got:
            broker.drain_events(timeout=30)
    return got


def test_an_agents_task_goes_to_the_queue_of_its_pool_and_has_no_record_yet(
    fleet: Connection, shop: Celery
) -> None:
    fleet.routing.agents.register("codegen-1", "codegen", 2, {})
    shop.send_task(AGENT, (PAYLOAD,), {"tenant": "acme"})
    assert taken(shop, QUEUE) == [(AGENT, [PAYLOAD], "acme")]
    assert list(fleet.client.scan_iter(fleet.keys.task("*"))) == []


def test_a_task_goes_to_a_pool_without_agents_whose_first_worker_will_be_started(
    fleet: Connection, shop: Celery
) -> None:
    soon = fleet.policy.store.now_us() // 1000 + 60_000
    fleet.client.hset(fleet.keys.pool("codegen").facts, "starts_until", soon)
    shop.send_task(AGENT, (PAYLOAD,), {"tenant": "acme"})
    assert taken(shop, QUEUE) == [(AGENT, [PAYLOAD], "acme")]


def test_a_task_of_ones_own_passes_untouched(shop: Celery) -> None:
    shop.send_task("shop.bill", (1, 2), queue="shop")
    assert taken(shop, "shop") == [("shop.bill", [1, 2], "")]


def test_what_cannot_run_is_refused_in_the_publisher(fleet: Connection, shop: Celery) -> None:
    with pytest.raises(NoAgentAvailable):
        shop.send_task(AGENT, (PAYLOAD,))
    fleet.routing.agents.register("codegen-1", "codegen", 2, {})
    with pytest.raises(InvalidRequest, match="hours"):
        shop.send_task(AGENT, ({"hours": 8},))
