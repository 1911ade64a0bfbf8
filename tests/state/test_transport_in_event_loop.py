"""The transport in a worker's event loop, on a real Valkey: few round trips, nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

import pytest
import redis
from kombu import Connection as KombuConnection
from kombu import Producer
from kombu.asynchronous import Hub
from test_transport import OVERFLOW, QUEUE, Taker, connect, submit

from fleet.broker.rules.prefetch import Pace
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

JOBS, SHOP = "{fleet}.jobs", "shop"
MAX_TURNS = 50


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


@pytest.fixture
def broker(fleet: Connection) -> Iterator[KombuConnection]:
    with connect(fleet) as found:
        yield found


@pytest.fixture
def hub(broker: KombuConnection) -> Iterator[Hub]:
    found = Hub()
    broker.transport.register_with_event_loop(broker.connection, found)
    yield found
    found.close()


def turn_until(hub: Hub, condition: Callable[[], bool]) -> None:
    """Let the loop turn: each turn ends when something can be read, or after a second."""
    for _ in range(MAX_TURNS):
        if condition():
            return
        hub.run_once()
    pytest.fail("not within so many turns of the event loop")


def calls(client: redis.Redis, command: str) -> int:
    found: dict[str, dict[str, int]] = client.info("commandstats")
    return found.get(f"cmdstat_{command}", {}).get("calls", 0)


def test_what_is_done_with_is_acknowledged_together_at_the_next_poll(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 2)
    taker = Taker(broker, QUEUE, most=2)
    turn_until(hub, lambda: len(taker.got) == 2)
    qos, unacked = taker.channel.qos, fleet.keys.pool("codegen").unacked
    before = calls(client, "hdel")
    assert not qos.can_consume()
    for message in taker.got:
        message.ack()
    # The slots are free at once, in Redis the messages are noted until the loop polls.
    assert qos.can_consume()
    assert (client.hlen(unacked), calls(client, "hdel")) == (2, before)
    turn_until(hub, lambda: client.hlen(unacked) == 0)
    assert client.zcard(fleet.keys.pool("codegen").unacked_index) == 0
    assert calls(client, "hdel") == before + 1


def test_slots_that_come_free_are_filled_without_a_wait_while_more_is_there(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    turn_until(hub, lambda: len(taker.got) == 2)
    waits = calls(client, "brpop")
    for message in taker.got:
        message.ack()
    turn_until(hub, lambda: len(taker.got) == 4)
    assert calls(client, "brpop") == waits
    assert client.hlen(fleet.keys.pool("codegen").unacked) == 2
    assert client.llen(OVERFLOW) == 1


def test_a_worker_waits_again_once_the_queues_are_empty(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 3)
    taker = Taker(broker, QUEUE, OVERFLOW, most=1)
    for count in (1, 2, 3):
        turn_until(hub, lambda count=count: len(taker.got) == count)  # type: ignore[misc]
        taker.got[-1].ack()
    waits = calls(client, "brpop")
    turn_until(hub, lambda: calls(client, "brpop") > waits)
    submit(fleet)
    turn_until(hub, lambda: len(taker.got) == 4)


def test_a_server_that_forgot_the_script_is_told_it_again(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 2)
    taker = Taker(broker, QUEUE, OVERFLOW, most=1)
    turn_until(hub, lambda: len(taker.got) == 1)
    client.script_flush()
    taker.got[0].ack()
    turn_until(hub, lambda: len(taker.got) == 2)
    assert client.hlen(fleet.keys.pool("codegen").unacked) == 1


def test_after_the_end_of_the_loop_messages_are_acknowledged_at_once(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 2)
    taker = Taker(broker, QUEUE, most=2)
    turn_until(hub, lambda: len(taker.got) == 2)
    unacked = fleet.keys.pool("codegen").unacked
    taker.got[0].ack()
    broker.transport.leave_event_loop()
    assert client.hlen(unacked) == 1
    taker.got[1].ack()
    assert client.hlen(unacked) == 0


def test_a_channel_that_closes_acknowledges_what_is_done_with_and_gives_back_the_rest(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    ids = submit(fleet, 2)
    taker = Taker(broker, QUEUE, most=2)
    turn_until(hub, lambda: len(taker.got) == 2)
    done, held = taker.got
    done.ack()
    taker.channel.close()
    assert client.hlen(fleet.keys.pool("codegen").unacked) == 0
    (back,) = client.lrange(QUEUE, 0, -1)
    assert held.headers["id"].encode() in back
    assert done.headers["id"] in ids
    assert done.headers["id"].encode() not in back


def tags(taker: Taker) -> list[str]:
    return [message.delivery_tag for message in taker.got]


def test_the_slot_of_an_agent_that_has_ended_is_filled_before_its_task_is_acknowledged(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    taker.channel.qos.max_ended = 1
    turn_until(hub, lambda: len(taker.got) == 2)
    for tag in tags(taker):
        # Only one may be without a slot: the second end frees none.
        taker.channel.qos.end(tag)
    turn_until(hub, lambda: len(taker.got) == 3)
    assert not taker.channel.qos.can_consume()
    assert client.hlen(fleet.keys.pool("codegen").unacked) == 3


def test_the_slot_of_an_ended_agent_is_not_counted_again_when_its_task_is_acknowledged(
    fleet: Connection, broker: KombuConnection, hub: Hub
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    taker.channel.qos.max_ended = 1
    turn_until(hub, lambda: len(taker.got) == 2)
    ended = taker.got[0]
    taker.channel.qos.end(ended.delivery_tag)
    turn_until(hub, lambda: len(taker.got) == 3)
    ended.ack()
    taker.channel.qos.end(ended.delivery_tag)
    assert taker.channel.qos.can_consume_max_estimate() == 0


def test_tasks_are_fetched_ahead_only_while_more_of_them_wait(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    qos = taker.channel.qos
    qos.pace = Pace(2)
    turn_until(hub, lambda: len(taker.got) == 2)
    for _ in range(100):
        # So that a slow machine does not take them for old ones.
        qos.pace.end(monotonic() + 3600)
    assert qos.can_consume_max_estimate() == 2
    turn_until(hub, lambda: len(taker.got) == 4)
    taker.channel.has_more = False
    assert qos.can_consume_max_estimate() == 0


def test_tasks_of_a_lost_connection_that_still_run_keep_their_slots(
    fleet: Connection, broker: KombuConnection, hub: Hub
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    taker.channel.qos.known_deliveries = lambda: {"of the old one", *tags(taker)}
    assert taker.channel.qos.can_consume_max_estimate() == 1
    turn_until(hub, lambda: len(taker.got) == 1)
    assert not taker.channel.qos.can_consume()


@pytest.mark.parametrize("queue", [JOBS, SHOP])
def test_no_plain_task_is_fetched_ahead_of_its_slot(
    fleet: Connection, broker: KombuConnection, hub: Hub, client: redis.Redis, queue: str
) -> None:
    submit(fleet, 3)
    taker = Taker(broker, queue, QUEUE, OVERFLOW, most=2)
    qos = taker.channel.qos
    qos.pace = Pace(2)
    turn_until(hub, lambda: len(taker.got) == 2)
    Producer(broker).publish({"n": 1}, routing_key=queue)
    for _ in range(100):
        qos.pace.end(monotonic() + 3600)
    assert qos.can_consume_max_estimate() == 2
    turn_until(hub, lambda: len(taker.got) == 3)
    assert not qos.can_consume()
    assert client.llen(queue) == 1
    for message in list(taker.got):
        message.ack()
    turn_until(hub, lambda: len(taker.got) == 4)
    assert taker.got[-1].payload == {"n": 1}


def test_a_task_that_is_acknowledged_before_it_runs_keeps_its_slot(
    fleet: Connection, broker: KombuConnection, hub: Hub
) -> None:
    submit(fleet, 5)
    taker = Taker(broker, QUEUE, OVERFLOW, most=2)
    taker.channel.qos.known_deliveries = lambda: set(tags(taker))
    turn_until(hub, lambda: len(taker.got) == 2)
    taker.got[0].ack()
    assert taker.channel.qos.can_consume_max_estimate() == 0
