"""A task that is not Fleet's is published byte for byte as a stock application publishes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, group
from kombu import Connection as KombuConnection
from kombu import Consumer, Queue

from fleet.broker.app import make_app
from fleet.settings import Settings

FROM_CLOCK_OR_DICE = {
    "headers": ("id", "root_id", "parent_id", "group"),
    "properties": ("correlation_id", "delivery_tag", "reply_to"),
}
SOON = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def fleets(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Iterator[Celery]:
    with make_app(settings_of("")) as app:
        yield app


@pytest.fixture
def stock(client: redis.Redis, valkey_url: str) -> Iterator[Celery]:
    with Celery("stock", broker=valkey_url, backend=valkey_url, set_as_current=False) as app:
        yield app


def sent(app: Celery, client: redis.Redis, to: str = "", **options: Any) -> dict[str, Any]:
    """What stands in the queue, without what no two messages have in common."""
    queue = to or options["queue"]
    client.delete(queue, f"{queue}\x06\x166")
    app.send_task("shop.bill", (1, "two"), {"three": [3.5]}, **options)
    (text,) = client.lrange(queue, 0, -1) or client.lrange(f"{queue}\x06\x166", 0, -1)
    return plain(json.loads(text))


def plain(message: dict[str, Any]) -> dict[str, Any]:
    for part, names in FROM_CLOCK_OR_DICE.items():
        for name in names:
            assert name in message[part]
            del message[part][name]
    # Of a moment, how far ahead it is.
    message["properties"].pop("expiration", None)
    return message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 6},
        {"expires": SOON},
        {"headers": {"shop_visit": "v1"}},
        {"compression": "gzip"},
        {"ignore_result": True, "time_limit": 30, "soft_time_limit": 20},
        {"link": {"task": "shop.tell", "args": [1], "kwargs": {}, "options": {}}},
        {"argsrepr": "hidden", "retries": 2, "shadow": "shop.other"},
        {"delivery_mode": 1},
    ],
)
def test_a_message_to_a_plain_queue_is_the_same_to_the_byte(
    fleets: Celery, stock: Celery, client: redis.Redis, options: dict[str, Any]
) -> None:
    wanted = sent(stock, client, queue="shop", **options)
    assert sent(fleets, client, queue="shop", **options) == wanted


def test_a_message_that_waits_in_a_plain_queue_keeps_its_time(
    fleets: Celery, stock: Celery, client: redis.Redis
) -> None:
    wanted = sent(stock, client, queue="shop", eta=SOON)
    assert wanted["headers"]["eta"] is not None
    assert sent(fleets, client, queue="shop", eta=SOON) == wanted


def test_a_task_that_names_no_queue_goes_where_a_stock_application_would_send_it(
    fleets: Celery, stock: Celery, client: redis.Redis
) -> None:
    queue = fleets.conf.task_default_queue
    stock.conf.update(
        task_default_queue=queue,
        task_queues=[Queue(queue, routing_key=queue)],
    )
    wanted = sent(stock, client, queue)
    assert sent(fleets, client, queue) == wanted
    (router,) = fleets.conf.task_routes
    assert router("shop.bill", (), {}, {}) is None
    route = fleets.amqp.router.route({}, "shop.bill")
    assert (route["queue"].name, set(route)) == (queue, {"queue"})


def test_canvases_are_written_as_by_a_stock_application(
    fleets: Celery, stock: Celery, client: redis.Redis
) -> None:
    def bodies(app: Celery) -> list[Any]:
        client.delete("shop")
        bill = app.signature("shop.bill", args=(1,), queue="shop")
        for canvas in (
            chain(bill, bill, app=app),
            group([bill, bill], app=app),
            chord([bill, bill], bill, app=app),
        ):
            # A group's results are a cycle: what is collected when the server is gone would try to
            # unsubscribe from it for half a minute, and fail.
            canvas.apply_async().forget()
        messages = [json.loads(text) for text in client.lrange("shop", 0, -1)]
        return [(plain(m)["headers"], sorted(m["properties"]), sorted(m)) for m in messages]

    assert bodies(fleets) == bodies(stock)


def test_a_stock_application_beside_it_reads_what_fleets_publishes_and_the_other_way_round(
    fleets: Celery, stock: Celery, client: redis.Redis
) -> None:
    for publisher, reader in ((fleets, stock), (stock, fleets)):
        publisher.send_task("shop.bill", (1, 2), queue="shop")
        assert taken(reader, "shop") == [("shop.bill", [1, 2])]


def taken(app: Celery, queue: str) -> list[tuple[str, Any]]:
    got: list[tuple[str, Any]] = []

    def take(body: Any, message: Any) -> None:
        got.append((message.headers["task"], body[0]))
        message.ack()

    connection: KombuConnection = app.connection_for_read()
    with connection, Consumer(connection, [Queue(queue)], callbacks=[take], accept=["json"]):
        while not got:
            connection.drain_events(timeout=30)
    return got
