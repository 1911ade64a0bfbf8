"""What waits in Redis for a RabbitMQ is handed over once, or again where nobody confirmed it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest
import redis

from fleet import Fleet, Submission
from fleet.errors import InvalidRequest, Unavailable
from fleet.operations.broker import ping
from fleet.settings import load_settings
from fleet.tasks.handed_over_store import HandedOver
from fleet.tasks.outbox import Relay
from fleet.tasks.outbox_store import CONFIRM_MS

ASK = ("code_generation", {"instruction": "add"})


@pytest.fixture
def dead_rabbitmq() -> Iterator[str]:
    """An address at which nobody answers."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"amqp://user:hunter2@127.0.0.1:{unused.getsockname()[1]}//"


@pytest.fixture
def fleet(
    client: redis.Redis,
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
    dead_rabbitmq: str,
) -> Fleet:
    clean_environment.setenv("FLEET_BROKER_URL", dead_rabbitmq)
    clean_environment.setenv("FLEET_STATE_URL", valkey_url)
    found = Fleet(load_settings())
    found._connection.registry.register("codegen-1", "codegen", 10, {})
    return found


@pytest.fixture
def relay(fleet: Fleet) -> Relay:
    found = fleet._connection.relay
    assert found is not None
    return found


@pytest.fixture
def pass_time(client: redis.Redis) -> Callable[[], None]:
    def make_overdue() -> None:
        for task_id, moment in client.zrange("{fleet}:outbox", 0, -1, withscores=True):
            client.zadd("{fleet}:outbox", {task_id: moment - CONFIRM_MS * 1000})

    return make_overdue


def test_a_task_is_safe_in_redis_while_rabbitmq_is_away(
    fleet: Fleet, relay: Relay, pass_time: Callable[[], None]
) -> None:
    task = fleet.submit(*ASK)
    assert task.state() == "queued"
    assert relay.outbox.take() == []
    pass_time()
    (letter,) = relay.outbox.take()
    assert (letter.task_id, letter.queue) == (task.id, "{fleet}.codegen")
    assert json.loads(letter.message)["headers"]["id"] == task.id


def test_what_was_taken_and_confirmed_is_not_taken_again(
    fleet: Fleet, relay: Relay, pass_time: Callable[[], None], client: redis.Redis
) -> None:
    relay._rests_until = float("inf")
    ids = [fleet.submit(*ASK).id for _ in range(3)]
    letters = relay.outbox.take()
    assert [letter.task_id for letter in letters] == ids
    assert relay.outbox.take() == []
    assert relay.outbox.done(letters[:2]) == 2
    assert relay.outbox.done(letters[:2]) == 0
    pass_time()
    assert [letter.task_id for letter in relay.outbox.take()] == ids[2:]
    assert client.zcard("{fleet}.codegen:line") == client.llen("{fleet}.codegen") == 0


def test_a_late_confirmation_drops_nothing_that_was_taken_since(
    fleet: Fleet, relay: Relay, pass_time: Callable[[], None]
) -> None:
    relay._rests_until = float("inf")
    task = fleet.submit(*ASK)
    slow = relay.outbox.take()
    pass_time()
    assert len(relay.outbox.take()) == 1
    assert relay.outbox.done(slow) == 0
    pass_time()
    (again,) = relay.outbox.take()
    assert again.task_id == task.id


@pytest.fixture
def handed_over(fleet: Fleet, relay: Relay) -> HandedOver:
    """RabbitMQ has confirmed four tasks, in their order."""
    relay._rests_until = float("inf")
    fleet.submit_many([Submission(*ASK) for _ in range(4)])
    relay.outbox.done(relay.outbox.take())
    return relay.handed_over


QUEUE = "{fleet}.codegen"


def test_who_has_more_behind_it_than_there_are_messages_has_left_the_queue(
    handed_over: HandedOver, relay: Relay
) -> None:
    look = handed_over.look(QUEUE)
    assert handed_over.left(look, messages=4, patience_ms=0) == 0
    assert handed_over.left(look, messages=3, patience_ms=0) == 1
    # What comes in after the look is in front of nobody.
    look = handed_over.look(QUEUE)
    assert (look.handed_over, handed_over.left(look, messages=3, patience_ms=0)) == (3, 0)
    missed = handed_over.resend(QUEUE)
    assert len(missed) == 1 and missed[0] not in look.first
    assert [letter.task_id for letter in relay.outbox.take()] == missed


def test_what_is_lost_is_missed_after_its_time_and_each_time_later(
    handed_over: HandedOver, relay: Relay, client: redis.Redis
) -> None:
    patience_ms = 10_000
    waits = []
    for _ in range(3):
        handed_over.left(handed_over.look(QUEUE), 0, patience_ms)
        assert handed_over.resend(QUEUE) == []
        seconds, micros = client.time()
        due = client.zrange("{fleet}.codegen:taken", 0, -1, withscores=True)
        waits.append(round((due[0][1] / 1000 - seconds - micros / 1e6) / 10))
        client.zadd("{fleet}.codegen:taken", {task_id: 0 for task_id, _ in due})
        assert len(handed_over.resend(QUEUE)) == 4
        assert relay.outbox.done(relay.outbox.take()) == 4
    assert waits == [1, 2, 4]


def test_nobody_is_missed_who_runs_has_ended_or_is_under_way_again(
    fleet: Fleet, handed_over: HandedOver, relay: Relay, client: redis.Redis
) -> None:
    runs, cancelled, again, lost = handed_over.look(QUEUE).first
    assert handed_over.left(handed_over.look(QUEUE), 0, 0) == 4
    assert client.zcard("{fleet}.codegen:given") == 0
    tasks = fleet._connection.tasks
    lease = tasks.claim(runs, "codegen-1", "codegen", 10, "a-claim", "default", "")
    assert not isinstance(lease, str)
    fleet.task(cancelled).cancel()
    client.zadd("{fleet}.codegen:given", {again: 1})
    assert handed_over.resend(QUEUE) == [lost]
    assert client.zcard("{fleet}.codegen:taken") == 0


def test_one_that_begins_at_last_is_missed_early_again(
    fleet: Fleet, handed_over: HandedOver, client: redis.Redis
) -> None:
    handed_over.left(handed_over.look(QUEUE), 0, 0)
    first = handed_over.resend(QUEUE)[0]
    assert client.hget(f"{{fleet}}:task:{first}", "missed") == b"1"
    fleet._connection.tasks.claim(first, "codegen-1", "codegen", 10, "a-claim", "default", "")
    assert client.hget(f"{{fleet}}:task:{first}", "missed") is None


def test_what_is_moved_is_looked_for_where_it_is(handed_over: HandedOver) -> None:
    overflow = "{fleet}.overflow.code_generator"
    first = handed_over.look(QUEUE).first[:2]
    handed_over.moved(QUEUE, overflow, first)
    assert handed_over.look(QUEUE).handed_over == 2
    assert handed_over.look(overflow).first == first


def test_the_reaper_misses_no_message_that_rabbitmq_has(fleet: Fleet, relay: Relay) -> None:
    relay._rests_until = float("inf")
    task = fleet.submit(*ASK)
    relay.outbox.done(relay.outbox.take())
    lines = fleet._connection.lines
    assert lines.repair("codegen", "{fleet}.codegen") == []
    assert lines.missing() == []
    assert relay.outbox.take() == []
    assert (task.state(), task.record().pool) == ("queued", "codegen")


def test_a_rabbitmq_that_is_away_is_named_without_its_password(fleet: Fleet) -> None:
    with pytest.raises(Unavailable, match=r"RabbitMQ at 127\.0\.0\.1:\d+ does not answer") as told:
        ping(fleet.settings)
    assert "hunter2" not in str(told.value)


def test_what_cannot_be_drained_says_so(fleet: Fleet) -> None:
    for call in (lambda: fleet.drain("codegen-1"), lambda: fleet.drain_pool("codegen")):
        with pytest.raises(InvalidRequest, match="stop the workers instead"):
            call()
