"""Malformed messages in every place that a worker takes messages from: set aside, and let go of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from kombu import Consumer, Exchange, Queue
from malformed_messages import ENVELOPES, PLAIN, good_message, written
from test_transport import OVERFLOW, QUEUE, Taker, connect

from fleet.errors import TaskNotFound
from fleet.redis.keys import wake
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap
from fleet.tasks.set_aside_store import MAX_BYTES, MAX_KEPT
from fleet.tasks.waiting.release import release_due

PLAIN_QUEUE = "shop"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


def messages_of(queue: str, shapes: Any) -> list[bytes]:
    return [written(change, good_message("shop.add", [], queue)) for change in shapes.values()]


def held(client: redis.Redis, fleet: Connection) -> int:
    return int(client.hlen(fleet.keys.pool("codegen").unacked))


@pytest.mark.parametrize("queue", [QUEUE, OVERFLOW, "{fleet}.jobs"])
def test_what_is_no_message_in_a_queue_of_the_fleets_is_set_aside(
    fleet: Connection, client: redis.Redis, queue: str
) -> None:
    malformed = messages_of(queue, ENVELOPES)
    client.lpush(queue, *malformed, json.dumps(good_message("shop.add", [], queue)))
    client.lpush(wake(queue), "1")
    with connect(fleet) as broker:
        taker = Taker(broker, queue, most=4)
        taker.drain_until_one(20)
        assert fleet.tasks.set_aside.count() == fleet.tasks.set_aside.ever() == len(malformed)
        assert client.llen(queue) == 0
        assert held(client, fleet) == 1
        (message,) = taker.got
        message.ack()
    assert {each.queue for each in fleet.tasks.set_aside.newest()} == {queue}


@pytest.mark.parametrize("queue", [QUEUE, OVERFLOW, "{fleet}.jobs"])
def test_what_another_transport_sends_before_its_time_waits_in_no_worker(
    fleet: Connection, client: redis.Redis, queue: str
) -> None:
    early = good_message("agents.code_generator", [{}], queue)
    early["headers"]["eta"] = "9999-12-31T23:59:59+00:00"
    twice = {**early, "redelivered": True}
    due = good_message("agents.code_generator", [{}], queue)
    due["headers"]["eta"] = "2020-01-01T00:00:00"
    client.lpush(queue, *map(json.dumps, (early, twice, due)))
    client.lpush(wake(queue), "1")
    with connect(fleet) as broker:
        taker = Taker(broker, queue, most=1)
        taker.drain_until_one(20)
        assert [each.headers["id"] for each in taker.got] == [due["headers"]["id"]]
        assert held(client, fleet) == 1
    (kept,) = client.zrange(fleet.keys.deferred, 0, -1)
    assert early["headers"]["id"].encode() in kept and b'\\"eta\\": null' in kept
    assert fleet.tasks.set_aside.count() == 0
    client.zadd(fleet.keys.deferred, {kept: 0})
    release_due(fleet)
    assert client.zcard(fleet.keys.deferred) == 0
    assert early["headers"]["id"].encode() in client.lindex(queue, -1) + client.lindex(queue, 0)


def test_what_is_no_message_in_a_plain_queue_is_set_aside(
    fleet: Connection, client: redis.Redis
) -> None:
    malformed = messages_of(PLAIN_QUEUE, {**ENVELOPES, **PLAIN})
    good = good_message("shop.add", [], PLAIN_QUEUE)
    client.lpush(PLAIN_QUEUE, *malformed, json.dumps(good), json.dumps(good))
    with connect(fleet) as broker:
        taker = Taker(broker, PLAIN_QUEUE, most=4)
        taker.drain_until(2, 20)
        assert fleet.tasks.set_aside.count() == len(malformed)
        # Two of one delivery tag are two: acknowledging one leaves the other.
        assert held(client, fleet) == 2
        taker.got.pop().ack()
        assert held(client, fleet) == 1
        taker.got.pop().ack()


def test_what_is_no_message_of_a_broadcast_is_set_aside_once(
    fleet: Connection, client: redis.Redis
) -> None:
    with connect(fleet) as first, connect(fleet) as second:
        takers = [broadcast_taker(each) for each in (first, second)]
        for each in takers:
            each.drain(0.3)
        good = json.dumps(good_message("x", [], "news"))
        malformed = [each for each in messages_of("news", ENVELOPES) if each.strip()]
        for each in (*malformed, good):
            client.publish("/0.news", each)
        for taker in takers:
            taker.drain_until_one(10)
            assert len(taker.got) == 1
    assert fleet.tasks.set_aside.count() == len(malformed)


def broadcast_taker(broker: Any) -> Taker:
    taker = Taker(broker, most=4)
    queue = Queue(f"news.{uuid4().hex}", Exchange("news", type="fanout"), auto_delete=True)
    taker.consumer = Consumer(
        taker.channel,
        [queue],
        callbacks=[lambda body, message: taker.got.append(message)],
        accept=["json"],
        no_ack=True,
    )
    taker.consumer.consume()
    return taker


NOTED = {
    "no JSON": b'[{not json,"","{fleet}.codegen"]',
    "no UTF-8": b'["\xff","","{fleet}.codegen"]',
    "no list": b"{}",
    "of two": b'[{}, ""]',
    "no message": b'[17, "", "{fleet}.codegen"]',
    "no queue": b'[{"properties": {}}, "", 5]',
    "no properties": b'[{"properties": []}, "", "{fleet}.codegen"]',
    "too deep": b"[" * 100_000,
}


def test_what_is_noted_and_cannot_go_back_is_set_aside_by_a_worker(
    fleet: Connection, client: redis.Redis
) -> None:
    keys = fleet.keys.pool("codegen")
    good = json.dumps([good_message("shop.add", [], QUEUE), "", QUEUE])
    note(client, keys, {**NOTED, "good": good.encode()})
    with connect(fleet, visibility_timeout=1) as broker:
        taker = Taker(broker, QUEUE)
        taker.channel.qos.restore_visible()
        taker.drain_until_one(10)
        taker.got.pop().ack()
    assert fleet.tasks.set_aside.count() == len(NOTED)
    assert held(client, fleet) == client.zcard(keys.unacked_index) == 0


def test_and_by_beat_where_all_workers_are_dead(fleet: Connection, client: redis.Redis) -> None:
    keys = fleet.keys.pool("codegen")
    fleet.routing.agents.leave("codegen-1", "codegen")
    good = json.dumps([good_message("shop.add", [], QUEUE), "", QUEUE])
    shapes = {name: text for name, text in NOTED.items() if name != "no properties"}
    note(client, keys, {**shapes, "good": good.encode()})
    client.sadd(keys.in_flight, b"\xff\xfe")
    reap(fleet)
    assert fleet.tasks.set_aside.count() == len(shapes)
    assert held(client, fleet) == 0
    # It waits for whichever pool of its agent type comes alive.
    assert client.llen(OVERFLOW) == 1
    assert client.scard(keys.in_flight) == 0


def note(client: redis.Redis, keys: Any, entries: dict[str, bytes]) -> None:
    client.hset(keys.unacked, mapping=dict(entries))  # type: ignore[arg-type]
    client.zadd(keys.unacked_index, dict.fromkeys(entries, 1))


def test_what_is_no_message_in_the_schedule_is_set_aside(
    fleet: Connection, client: redis.Redis
) -> None:
    strange: list[bytes] = [b"\xff", b"{", b"17", b"[1, 2]", b'["a", "b", 3]', b'["", "b", "c"]']
    strange += [b'["\\ud800", "b", "c"]', b"[" * 100_000]
    good = json.dumps([PLAIN_QUEUE, wake(PLAIN_QUEUE), "a message"]).encode()
    client.zadd(fleet.keys.deferred, dict.fromkeys((*strange, good), 1))
    client.zadd(fleet.keys.delayed, {b"\xff": 1})
    client.zadd(fleet.keys.parked, {b"\xff": 1})
    release_due(fleet)
    assert client.lrange(PLAIN_QUEUE, 0, -1) == [b"a message"]
    assert client.zcard(fleet.keys.deferred) == 0
    assert fleet.tasks.set_aside.count() == len(strange)


def test_the_list_is_bounded_and_its_count_goes_on(fleet: Connection, client: redis.Redis) -> None:
    for number in range(MAX_KEPT + 3):
        fleet.tasks.set_aside.keep(QUEUE, b"x" * (MAX_BYTES + number), "reason " * 1000)
    found = fleet.tasks.set_aside.newest()
    assert fleet.tasks.set_aside.count() == len(found) == MAX_KEPT
    assert fleet.tasks.set_aside.ever() == MAX_KEPT + 3
    assert (found[0].size, len(found[0].message)) == (MAX_BYTES + MAX_KEPT + 2, MAX_BYTES)
    assert len(found[0].reason) == 500
    fleet.tasks.set_aside.drop(found[0].id)
    assert fleet.tasks.set_aside.count() == MAX_KEPT - 1
    for strange in (found[0].id, "malformed-0-0", "malformed-"):
        with pytest.raises(TaskNotFound):
            fleet.tasks.set_aside.drop(strange)
