"""The transport on a real Valkey: what it takes is noted, and it wakes without polling."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection as KombuConnection
from kombu import Consumer, Exchange, Message, Producer, Queue

from fleet.broker.messages import message_encoder
from fleet.broker.transport.channel import transport_url
from fleet.broker.transport.link import Link
from fleet.redis.keys import wake
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission

QUEUE, OVERFLOW = "{fleet}.codegen", "{fleet}.overflow.code_generator"
ASK = Submission("code_generation", {"instruction": "add"})


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


def connect(fleet: Connection, **more: Any) -> KombuConnection:
    queues = (QUEUE, OVERFLOW)
    link = Link(fleet.keys.tag, lambda message, text: False, "codegen", "codegen-1", queues)
    keys = fleet.keys.pool("codegen")
    options = {
        "fleet": link,
        "unacked_key": keys.unacked,
        "unacked_index_key": keys.unacked_index,
        "unacked_mutex_key": keys.unacked_mutex,
        **more,
    }
    return KombuConnection(transport_url(fleet.settings.broker_url), transport_options=options)


@pytest.fixture
def broker(fleet: Connection) -> Iterator[KombuConnection]:
    with connect(fleet) as found:
        yield found


class Taker:
    """A consumer that keeps what it gets, unacknowledged."""

    def __init__(self, broker: KombuConnection, *queues: str, most: int = 10) -> None:
        self.broker = broker
        self.got: list[Any] = []
        self.channel = broker.default_channel
        self.consumer = Consumer(
            self.channel,
            [Queue(name, Exchange(""), routing_key=name) for name in queues],
            callbacks=[lambda body, message: self.got.append(message)],
            accept=["json"],
        )
        self.consumer.qos(prefetch_count=most)
        self.consumer.consume()

    def drain(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.broker.drain_events(timeout=0.2)
            except TimeoutError:
                return

    def drain_until_one(self, seconds: float) -> None:
        self.drain_until(1, seconds)

    def drain_until(self, count: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < deadline:
            self.drain(1)


PLAIN = json.dumps(
    {
        "body": "e30=",
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "shop"},
            "delivery_mode": 2,
            "delivery_tag": "t",
        },
    }
)


def submit(fleet: Connection, count: int = 1) -> list[str]:
    done = fleet.submitter(message_encoder()).submit_many([ASK] * count)
    return [each.task_id for each in done]


def test_what_is_taken_is_noted_until_it_is_acknowledged(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    (task_id,) = submit(fleet)
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    (message,) = taker.got
    assert message.headers["id"] == task_id
    unacked = fleet.keys.pool("codegen").unacked
    assert (client.llen(QUEUE), client.hlen(unacked)) == (0, 1)
    message.ack()
    assert client.hlen(unacked) == 0


def test_no_more_is_taken_than_there_are_free_slots(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    taker.drain(3)
    assert len(taker.got) == 2
    assert client.llen(OVERFLOW) == 3
    assert client.llen(wake(OVERFLOW)) == 1
    taker.got.pop().ack()
    taker.drain(3)
    assert client.llen(OVERFLOW) == 2


def test_a_message_from_the_overflow_queue_takes_a_slot_as_it_is_taken(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    ids = submit(fleet, 3)
    client.delete(QUEUE, fleet.keys.pool("codegen").in_flight)
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    assert client.smembers(fleet.keys.pool("codegen").in_flight) == {ids[2].encode()}


def test_an_agent_in_maintenance_takes_nothing(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet)
    fleet.routing.agents.drain("codegen-1")
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    assert taker.got == []
    assert client.llen(QUEUE) == 1


def test_an_agent_in_maintenance_leaves_the_wake_token_to_others_until_it_is_resumed(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet)
    fleet.routing.agents.drain("codegen-1")
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    assert client.llen(wake(QUEUE)) == 1
    fleet.routing.agents.resume("codegen-1")
    taker.drain_until_one(5)
    assert len(taker.got) == 1


def test_a_channel_that_closes_takes_nothing_more_and_leaves_the_token(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    taker = Taker(broker, QUEUE)
    taker.drain(0.3)
    submit(fleet)
    taker.channel.close()
    assert (client.llen(QUEUE), client.llen(wake(QUEUE))) == (1, 1)
    assert client.hlen(fleet.keys.pool("codegen").unacked) == 0


def test_what_a_closing_worker_holds_goes_back_and_wakes_another(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet, 3)
    client.delete(QUEUE, wake(QUEUE), fleet.keys.pool("codegen").in_flight)
    taker = Taker(broker, OVERFLOW)
    taker.drain(3)
    assert len(taker.got) == 1
    taker.channel.close()
    assert (client.llen(OVERFLOW), client.llen(wake(OVERFLOW))) == (1, 1)
    assert client.scard(fleet.keys.pool("codegen").in_flight) == 0


def test_what_a_dead_worker_took_and_never_claimed_comes_back(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet, 3)
    dead = Taker(broker, QUEUE, OVERFLOW)
    dead.drain(3)
    keys = fleet.keys.pool("codegen")
    assert client.hlen(keys.unacked) == 3
    for tag in client.hkeys(keys.unacked):
        client.zadd(keys.unacked_index, {tag: 1})
    dead.channel.qos._delivered.clear()
    dead.channel.qos.visibility_timeout = 60
    dead.channel.qos.restore_visible()
    assert client.hlen(keys.unacked) == 0
    assert (client.llen(QUEUE), client.llen(OVERFLOW)) == (2, 1)
    assert client.scard(keys.in_flight) == 2


def test_a_live_workers_messages_are_renewed_and_stay_its_own(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet)
    holder = Taker(broker, QUEUE)
    holder.drain(3)
    keys = fleet.keys.pool("codegen")
    (tag,) = client.hkeys(keys.unacked)
    client.zadd(keys.unacked_index, {tag: 1})
    holder.channel.qos.restore_visible()
    assert client.hkeys(keys.unacked) == [tag]
    assert (client.zscore(keys.unacked_index, tag) or 0) > 1
    assert client.llen(QUEUE) == 0


def test_a_message_of_a_plain_queue_that_waits_for_its_time_stays_its_workers_own(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    client.lpush("shop", PLAIN)
    holder = Taker(broker, "shop", QUEUE)
    holder.drain_until_one(5)
    keys = fleet.keys.pool("codegen")
    (tag,) = client.hkeys(keys.unacked)
    client.zadd(keys.unacked_index, {tag: 1})
    holder.channel.qos.restore_visible()
    assert client.hkeys(keys.unacked) == [tag]
    assert client.llen("shop") == 0


def test_what_nobody_begins_goes_back_once_and_what_runs_or_is_no_task_of_the_fleets_stays(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    running, waiting, overflowed, limited = submit(fleet, 4)
    client.lpush("shop", PLAIN)
    client.lpush(QUEUE, PLAIN)
    holder = Taker(broker, "shop", QUEUE, OVERFLOW)
    holder.drain_until(6, 5)
    fleet.tasks.records.claim(running, "codegen-1", "codegen", 30, "a", "default", "")
    keys, qos = fleet.keys.pool("codegen"), holder.channel.qos
    qos.visibility_timeout = 2
    # All are handed to the worker's pool but one, which waits for its rate limit.
    tags = {each.headers.get("id"): each.delivery_tag for each in holder.got}
    qos.known_deliveries = lambda: set(qos._delivered) - {tags[limited]}
    for _ in range(2):
        # The first look begins to count: nothing is given back that may just have come.
        qos.restore_visible()
        assert client.hlen(keys.unacked) == 6
    time.sleep(2)
    for _ in range(2):
        qos.restore_visible()
        assert client.hlen(keys.unacked) == 4
        back = [*client.lrange(QUEUE, 0, -1), *client.lrange(OVERFLOW, 0, -1)]
        assert [json.loads(each)["headers"]["id"] for each in back] == [waiting, overflowed]
    assert client.smembers(keys.in_flight) == {
        each.encode() for each in (running, waiting, limited)
    }
    # Whoever held it has still no room for another, and may let go of it later.
    assert qos.can_consume_max_estimate() == 4
    for message in holder.got:
        message.ack()
    assert client.hlen(keys.unacked) == 0
    assert (client.llen(QUEUE), client.llen(OVERFLOW)) == (1, 1)


@pytest.mark.parametrize("let_go", [Message.ack, Message.reject])
def test_a_slot_is_free_again_though_the_server_was_silent_when_the_message_was_let_go(
    fleet: Connection, client: redis.Redis, let_go: Callable[[Message], None]
) -> None:
    submit(fleet, 2)
    with connect(fleet, socket_timeout=1) as broker:
        taker = Taker(broker, QUEUE, most=1)
        taker.drain_until_one(5)
        first = taker.got.pop()
        client.client_pause(10_000, all=False)
        with pytest.raises(redis.TimeoutError):
            let_go(first)
        client.client_unpause()
        taker.drain_until_one(5)
        assert len(taker.got) == 1


def test_a_message_of_a_stock_publisher_is_taken_without_a_token(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    with KombuConnection(fleet.settings.broker_url) as stock:
        Producer(stock).publish({"n": 1}, routing_key=QUEUE, headers={"id": "x"})
    assert client.llen(wake(QUEUE)) == 0
    taker = Taker(broker, QUEUE)
    taker.drain_until_one(5)
    assert taker.got[0].payload == {"n": 1}


def test_a_queue_that_is_not_the_fleets_is_served_as_by_the_stock_transport(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    Producer(broker).publish({"n": 2}, routing_key="shop", declare=[Queue("shop")])
    assert client.llen("shop") == 1
    assert client.exists(wake("shop")) == 0
    taker = Taker(broker, "shop", QUEUE)
    taker.drain(3)
    assert taker.got[0].payload == {"n": 2}


def test_a_planned_task_is_placed_and_not_pushed(fleet: Connection, client: redis.Redis) -> None:
    placed: list[str] = []

    def place(message: dict[str, Any], text: str) -> bool:
        placed.append(message["headers"]["id"])
        return True

    link = Link(fleet.keys.tag, place)
    url = transport_url(fleet.settings.broker_url)
    with KombuConnection(url, transport_options={"fleet": link}) as broker:
        Producer(broker).publish({}, routing_key=QUEUE, headers={"id": "t"})
    assert placed == ["t"]
    assert client.llen(QUEUE) == 0


def test_an_address_keeps_its_parts_and_says_whether_it_is_encrypted() -> None:
    assert transport_url("redis://:pw@host:1/2") == "fleet://:pw@host:1/2"
    assert transport_url("rediss://host") == "fleets://host:6379/0"


def test_a_task_that_runs_on_keeps_its_slot_when_its_message_comes_back(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    ids = submit(fleet, 4)
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    waiting, running = ids[2:]
    fleet.tasks.records.claim(running, "codegen-1", "codegen", 30, "a", "acme", "")
    taker.channel.qos.restore_unacked_once()
    assert client.llen(OVERFLOW) == 2
    slots = client.smembers(fleet.keys.pool("codegen").in_flight)
    assert running.encode() in slots
    assert waiting.encode() not in slots


def test_a_pool_in_maintenance_takes_nothing_until_it_is_resumed(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet)
    fleet.routing.pools.maintain("codegen", True)
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    assert (taker.got, client.llen(wake(QUEUE))) == ([], 1)
    fleet.routing.pools.maintain("codegen", False)
    taker.drain_until_one(5)
    assert len(taker.got) == 1


def test_an_ejected_pool_takes_what_holds_its_slots_and_nothing_of_the_overflow_queue(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet, 4)
    client.hset(
        fleet.keys.pool("codegen").facts, "health", "ejected,9999999999999,1,0,1,3,1,1,1,it failed"
    )
    taker = Taker(broker, QUEUE, OVERFLOW)
    taker.drain(3)
    assert len(taker.got) == 2
    assert (client.llen(OVERFLOW), client.llen(wake(OVERFLOW))) == (2, 1)
    taker.got.clear()
    fleet.routing.pools.readmit("codegen")
    taker.drain_until_one(5)
    assert len(taker.got) == 2


def test_a_plain_queue_is_served_though_the_fleets_queues_are_never_empty(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    submit(fleet, 20)
    Producer(broker).publish({"n": 3}, routing_key="shop", declare=[Queue("shop")])
    taker = Taker(broker, "shop", QUEUE, OVERFLOW, most=1)

    def names() -> list[str]:
        return [message.delivery_info["routing_key"] for message in taker.got]

    for _ in range(3):
        if taker.got:
            taker.got[-1].ack()
        taker.drain_until(len(taker.got) + 1, 5)
    assert names().count("shop") == 1
    assert client.llen(OVERFLOW) > 0


def test_a_message_of_a_queue_whose_consumer_was_just_cancelled_goes_back(
    fleet: Connection, broker: KombuConnection, client: redis.Redis
) -> None:
    taker = Taker(broker, "shop", QUEUE)
    # The wait for both queues begins, and is not over when one of them is let go.
    taker.drain(0.3)
    taker.consumer.cancel_by_queue("shop")
    client.lpush("shop", PLAIN)
    taker.drain(3)
    assert taker.got == []
    assert (client.llen("shop"), client.hlen(fleet.keys.pool("codegen").unacked)) == (1, 0)
