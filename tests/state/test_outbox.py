"""What waits in Redis for a RabbitMQ is handed over once, or again where nobody confirmed it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest
import redis

from fleet import Fleet
from fleet.errors import InvalidRequest, Unavailable
from fleet.services.broker import ping
from fleet.services.outbox import Relay
from fleet.settings import load_settings
from fleet.state.outbox import CONFIRM_MS

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
            client.zadd("{fleet}:outbox", {task_id: moment - CONFIRM_MS})

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
    relay.outbox.done(letters[:2])
    relay.outbox.done(letters[:2])
    pass_time()
    assert [letter.task_id for letter in relay.outbox.take()] == ids[2:]
    assert client.zcard("{fleet}.codegen:line") == client.llen("{fleet}.codegen") == 0


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
