"""Queues of a fleet that plain tasks of Celery use: they take no slots, and expire as ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from kombu import Connection as KombuConnection
from kombu import Consumer, Exchange, Producer, Queue

from fleet.broker.app import Role, make_app
from fleet.errors import InvalidConfig
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import retain
from fleet.tasks.waiting.release import release_due

MINE, POOLS = "{fleet}.mine", "{fleet}.codegen"
NO_AGENT, AGENT = Role(), Role("codegen", "codegen-1")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


@contextmanager
def connected(fleet: Connection, role: Role = NO_AGENT, **more: Any) -> Iterator[KombuConnection]:
    """A connection as a process of this role has it."""
    app = make_app(fleet.settings, role)
    options = {**app.conf.broker_transport_options, **more}
    url = app.conf.broker_url
    with KombuConnection(url, transport_options=options) as found:
        yield found


def send(broker: KombuConnection, queue: Queue, number: int, **headers: Any) -> None:
    message = {"headers": {"id": f"plain-{number}", "task": "shop.pack", **headers}}
    producer = Producer(broker.default_channel, serializer="json")
    producer.publish({}, routing_key=queue.name, exchange="", declare=[queue], **message)


def take(broker: KombuConnection, count: int, *queues: Queue) -> list[Any]:
    got: list[Any] = []
    with Consumer(
        broker.default_channel,
        list(queues),
        callbacks=[lambda body, message: (got.append(message), message.ack())],
        accept=["json"],
    ) as consumer:
        consumer.qos(prefetch_count=10)
        deadline = time.monotonic() + 20
        while len(got) < count:
            assert time.monotonic() < deadline
            broker.drain_events(timeout=5)
    return got


def plain(name: str, **more: Any) -> Queue:
    return Queue(name, Exchange(""), routing_key=name, **more)


@pytest.mark.parametrize("name", [MINE, POOLS, "{fleet}.overflow.code_generator"])
def test_a_worker_that_is_no_agent_notes_no_slots(
    fleet: Connection, client: redis.Redis, name: str
) -> None:
    with connected(fleet) as broker:
        for number in range(5):
            send(broker, plain(name), number)
        assert len(take(broker, 5, plain(name))) == 5
    assert client.keys("*in_flight*") == []


def test_a_plain_task_of_another_queue_takes_no_slot_of_the_pool(
    fleet: Connection, client: redis.Redis
) -> None:
    fleet.routing.agents.register(AGENT.agent, AGENT.pool, 2, {})
    with connected(fleet, AGENT) as broker:
        for number in range(5):
            send(broker, plain(MINE), number)
        assert len(take(broker, 5, plain(MINE))) == 5
    assert client.keys("*in_flight*") == []


def test_what_was_noted_of_no_pool_is_dropped(fleet: Connection, client: redis.Redis) -> None:
    client.sadd("{fleet}:pool::in_flight", "left")
    retain(fleet)
    assert client.keys("*in_flight*") == []


def test_a_queue_that_nobody_uses_expires(fleet: Connection, client: redis.Redis) -> None:
    with connected(fleet) as broker:
        send(broker, plain(MINE), 1)
        assert client.pttl(MINE) == -1
    with connected(fleet) as broker:
        send(broker, plain(MINE, expires=0.3), 2)
        assert 0 < client.pttl(MINE) <= 300
        deadline = time.monotonic() + 10
        while client.exists(MINE):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_queue_expires_too_where_its_message_has_waited_for_its_time(
    fleet: Connection, client: redis.Redis
) -> None:
    with connected(fleet) as broker:
        eta = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
        send(broker, plain(MINE, expires=60), 1, eta=eta)
        assert not client.exists(MINE)
        deadline = time.monotonic() + 10
        while not client.exists(MINE):
            assert time.monotonic() < deadline
            release_due(fleet)
            time.sleep(0.02)
    assert 0 < client.pttl(MINE) <= 60_000


@pytest.mark.parametrize("role", [NO_AGENT, AGENT], ids=["plain", "agent"])
def test_a_prefix_of_all_keys_is_an_error_before_anything_is_written(
    fleet: Connection, client: redis.Redis, role: Role
) -> None:
    with (
        connected(fleet, role, global_keyprefix="shop:") as broker,
        pytest.raises(InvalidConfig, match="FLEET_NAMESPACE"),
    ):
        send(broker, plain(MINE), 1)
    assert client.keys("*") == []
