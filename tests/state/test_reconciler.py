"""What was lost without a trace is found by what is left, and comes back once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import redis
from kombu import Connection as KombuConnection
from kombu import Consumer, Exchange, Message, Queue

from fleet.broker.app import Role, make_app
from fleet.broker.messages import message_encoder
from fleet.errors import TaskFailed
from fleet.ledger.verification import verify
from fleet.redis.keys import line, lists
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import MAX_REPUBLISHED, reap
from fleet.tasks.run.outcome import error_from
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

QUEUE, OVERFLOW = "{fleet}.codegen", "{fleet}.overflow.code_generator"
ASK = Submission("code_generation", {"instruction": "add"})
CONFIG = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'


@pytest.fixture
def settings(settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of(CONFIG)


@pytest.fixture
def fleet(client: redis.Redis, settings: Settings) -> Connection:
    found = open_connection(settings)
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


@pytest.fixture
def taker(fleet: Connection, settings: Settings) -> Iterator[Taker]:
    with make_app(settings, Role("codegen", "codegen-1")).connection() as broker:
        yield Taker(broker)


class Taker:
    """A worker's consumer, which keeps what it gets."""

    def __init__(self, broker: KombuConnection) -> None:
        self.broker = broker
        self.got: list[Message] = []
        queues = [Queue(name, Exchange(""), routing_key=name) for name in (QUEUE, OVERFLOW)]
        self.consumer = Consumer(
            broker.default_channel,
            queues,
            callbacks=[lambda body, message: self.got.append(message)],
            accept=["json"],
        )
        self.consumer.qos(prefetch_count=10)

    def take(self, count: int) -> list[Message]:
        """Take until so many are here, within some seconds."""
        self.consumer.consume()
        for _ in range(100):
            if len(self.got) >= count:
                break
            try:
                self.broker.drain_events(timeout=0.1)
            except TimeoutError:
                continue
        assert len(self.got) == count
        return self.got


def submit(fleet: Connection, count: int = 1) -> list[str]:
    done = fleet.submitter(message_encoder()).submit_many([ASK] * count)
    return [each.task_id for each in done]


def ids_in(client: redis.Redis, queue: str) -> list[str]:
    """Of the tasks in a queue, the next one first."""
    found = client.lrange(queue, 0, -1)
    return [json.loads(each)["headers"]["id"] for each in reversed(found)]


def claimed(fleet: Connection, task_id: str) -> Lease:
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", "default", "")
    assert isinstance(lease, Lease)
    return lease


def set_right(fleet: Connection) -> dict[str, list[str]]:
    return {what: ids for what, ids in reap(fleet).items() if ids}


def test_while_all_is_well_nothing_is_done(
    fleet: Connection, client: redis.Redis, taker: Taker
) -> None:
    submit(fleet, 20)
    assert set_right(fleet) == {}
    taker.take(10)
    assert set_right(fleet) == {}
    assert client.llen(OVERFLOW) == 10


@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_message_deleted_by_hand_is_published_once_by_whoever_finds_it(
    fleet: Connection, client: redis.Redis, place: int
) -> None:
    ids = submit(fleet, 7)[2:]
    assert ids_in(client, OVERFLOW) == ids
    client.lrem(OVERFLOW, 1, client.lindex(OVERFLOW, -1 - place))
    for _ in range(place):
        # Who stands in front of it is taken first: till then nothing tells but a search.
        assert set_right(fleet) == {}
        client.rpop(OVERFLOW)
        client.zpopmin(line(OVERFLOW))
    found = fleet.tasks.queue_index.missing()
    assert [each.task_id for each in found] == [ids[place]]
    answers = [fleet.tasks.queue_index.republish(found[0], 3, "{}", 60) for _ in range(2)]
    assert answers == ["republished", "gone"]
    assert ids_in(client, OVERFLOW) == ids[place:]
    assert set_right(fleet) == {}


def test_a_queue_that_is_gone_as_a_whole_comes_back(
    fleet: Connection, client: redis.Redis
) -> None:
    ids = submit(fleet, 300)
    client.delete(QUEUE, OVERFLOW)
    assert sorted(set_right(fleet)["republished"]) == sorted(ids)
    assert set_right(fleet) == {}
    assert ids_in(client, QUEUE) + ids_in(client, OVERFLOW) == ids
    assert client.llen("{fleet}.overflow.code_generator:wake") == 1


def test_a_message_that_its_worker_has_lost_is_published_again(
    fleet: Connection, client: redis.Redis, taker: Taker
) -> None:
    ids = submit(fleet, 4)
    taker.take(4)
    assert set_right(fleet) == {}
    client.delete(fleet.keys.pool("codegen").unacked)
    assert sorted(set_right(fleet)["republished"]) == sorted(ids)
    assert set_right(fleet) == {}
    assert sorted(ids_in(client, QUEUE)) == sorted(ids)


def test_a_message_that_goes_back_is_not_lost(
    fleet: Connection, client: redis.Redis, taker: Taker
) -> None:
    ids = submit(fleet, 6)
    for message in taker.take(6)[:3]:
        message.requeue()
    assert set_right(fleet) == {}
    assert len(ids_in(client, QUEUE) + ids_in(client, OVERFLOW)) == 3
    assert set(ids_in(client, QUEUE) + ids_in(client, OVERFLOW)) <= set(ids)


def test_a_running_task_whose_message_went_back_hides_nobody(
    fleet: Connection, client: redis.Redis, taker: Taker
) -> None:
    ids = submit(fleet, 6)
    message = taker.take(6)[5]
    others = submit(fleet, 20)
    fleet.tasks.records.claim(ids[5], "codegen-1", "codegen", 0, "a", "default", "")
    with fleet.client as found:
        taker.consumer.channel.qos.restore_by_tag(message.delivery_tag, found)
    # Its copy is in front, and the reconciler puts another one there.
    assert set_right(fleet)["requeued"] == [ids[5]]
    assert set_right(fleet) == {}
    assert ids_in(client, OVERFLOW) == [ids[5], ids[5], *others]


def test_what_a_dead_pools_workers_took_and_did_not_begin_goes_to_others(
    fleet: Connection, client: redis.Redis, taker: Taker
) -> None:
    ids = submit(fleet, 4)
    taker.take(4)
    held = fleet.keys.pool("codegen")
    client.zadd(held.agents, {"codegen-1": 0})
    # Somebody has renewed them a moment ago: a worker that has left and ends what it runs.
    assert "restored" not in set_right(fleet)
    client.zadd(held.unacked_index, dict.fromkeys(client.hkeys(held.unacked), 0))
    assert sorted(set_right(fleet)["restored"]) == sorted(ids)
    assert set_right(fleet) == {}
    assert sorted(ids_in(client, OVERFLOW)) == sorted(ids)
    assert client.exists(held.unacked, held.unacked_index, held.in_flight) == 0


def test_what_has_a_priority_is_rescued_from_a_dead_pool_too(
    fleet: Connection, client: redis.Redis
) -> None:
    (task_id,) = submit(fleet)
    urgent = lists(QUEUE)[1]
    client.rename(QUEUE, urgent)
    client.rename(line(QUEUE), line(urgent))
    client.zadd(fleet.keys.pool("codegen").agents, {"codegen-1": 0})
    assert set_right(fleet)["rescued"] == [task_id]
    assert ids_in(client, OVERFLOW) == [task_id]


@pytest.mark.parametrize("strange", ["{}", "no JSON", '{"headers": {}}', "[]"])
def test_a_message_that_is_no_tasks_stops_no_recovery(
    fleet: Connection, client: redis.Redis, strange: str
) -> None:
    (task_id,) = submit(fleet)
    client.rpush(QUEUE, strange)
    client.zadd(fleet.keys.pool("codegen").agents, {"codegen-1": 0})
    assert set_right(fleet)["rescued"] == [task_id]
    assert client.lrange(OVERFLOW, -1, -1) == [strange.encode()]


def test_messages_moved_from_a_dead_pool_are_not_lost(
    fleet: Connection, client: redis.Redis
) -> None:
    ids = submit(fleet, 6)
    fleet.routing.pools.maintain("codegen", True)
    assert set_right(fleet) == {"rescued": ids[:2]}
    assert set_right(fleet) == {}
    assert ids_in(client, OVERFLOW) == ids[2:] + ids[:2]


def test_a_cancelled_task_is_not_published_again(fleet: Connection, client: redis.Redis) -> None:
    (task_id,) = submit(fleet)
    fleet.tasks.records.cancel(task_id, 60)
    client.delete(QUEUE)
    assert set_right(fleet) == {}
    assert client.exists(QUEUE, line(QUEUE)) == 0


def test_a_message_that_workers_drop_again_and_again_ends_its_task(
    fleet: Connection, client: redis.Redis
) -> None:
    (task_id,) = submit(fleet)
    for _ in range(MAX_REPUBLISHED):
        client.delete(QUEUE)
        assert set_right(fleet) == {"republished": [task_id]}
    client.delete(QUEUE)
    assert set_right(fleet) == {"dropped": [task_id]}
    record = fleet.tasks.records.read(task_id)
    assert record.state == "failed" and record.error is not None
    error = error_from(record.error, None)
    assert isinstance(error, TaskFailed) and "lost 4 times" in str(error)
    assert client.hlen(fleet.keys.reservations) == 0
    assert client.hlen(fleet.keys.waiting) == 0
    assert [(each.id, each.dead) for each in fleet.tasks.dead_letters.newest()] == [
        (task_id, "lost")
    ]
    assert fleet.tasks.dead_letters.letter(task_id).message
    assert fleet.routing.pools.counts(["codegen"])["codegen"].in_flight == 0


def test_a_slot_that_is_held_for_a_task_in_another_queue_is_freed(
    fleet: Connection, client: redis.Redis
) -> None:
    ids = submit(fleet, 3)
    client.sadd(fleet.keys.pool("codegen").in_flight, ids[2])
    assert set_right(fleet) == {"repaired": [ids[2]]}
    assert client.smembers(fleet.keys.pool("codegen").in_flight) == {i.encode() for i in ids[:2]}


def test_money_held_for_a_task_that_is_gone_is_given_back(
    fleet: Connection, client: redis.Redis
) -> None:
    gone, kept = submit(fleet, 2)
    claimed(fleet, kept)
    client.delete(fleet.keys.task(gone))
    assert set_right(fleet)["orphaned"] == [gone]
    assert set_right(fleet) == {}
    assert client.hkeys(fleet.keys.reservations) == [kept.encode()]
    assert verify(fleet.ledger).differences == ()
