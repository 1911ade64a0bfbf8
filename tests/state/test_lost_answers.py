"""What was done, and whose answer got lost on the way, is not done a second time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis
from kombu import Connection as KombuConnection
from kombu import Consumer, Exchange, Producer, Queue
from tcp_proxy import Proxy

from fleet.broker.messages import message_encoder
from fleet.broker.transport.channel import transport_url
from fleet.broker.transport.link import Link
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission

QUEUE, JOBS = "{fleet}.codegen", "{fleet}.jobs"
ASK = Submission("code_generation", {"instruction": "add"})


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 9'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 9, {})
    return found


@pytest.fixture
def worker(fleet: Connection, proxy: Proxy) -> Iterator[KombuConnection]:
    """A worker whose client sends again what was not answered."""
    link = Link(fleet.keys.tag, lambda *_: False, "codegen", "codegen-1", (JOBS, QUEUE))
    keys = fleet.keys.pool("codegen")
    options = {
        "fleet": link,
        "unacked_key": keys.unacked,
        "unacked_index_key": keys.unacked_index,
        "retry_on_timeout": True,
    }
    url = transport_url(f"redis://127.0.0.1:{proxy.port}/0")
    with KombuConnection(url, transport_options=options) as found:
        yield found


def test_a_fetch_that_is_sent_again_gets_the_same_messages_and_loses_none(
    fleet: Connection, worker: KombuConnection, proxy: Proxy, client: redis.Redis
) -> None:
    got: list[str] = []
    channel = worker.default_channel
    queues = [Queue(name, Exchange(""), routing_key=name) for name in (JOBS, QUEUE)]
    consumer = Consumer(channel, queues, accept=["json"])
    consumer.register_callback(lambda body, message: got.append(message.headers["id"]))
    consumer.qos(prefetch_count=3)
    consumer.consume()
    # From now on the server knows the script.
    assert not channel._fetch([JOBS, QUEUE])
    done = fleet.submitter(message_encoder()).submit_many([ASK] * 5)
    proxy.lose_an_answer()
    assert channel._fetch([JOBS, QUEUE])
    assert proxy.has_lost_it()
    assert got == [each.task_id for each in done[:3]]
    unacked = fleet.keys.pool("codegen").unacked
    assert (client.hlen(unacked), client.llen(QUEUE)) == (3, 2)
    held = [text.decode() for text in client.hvals(unacked)]
    assert all(any(task_id in text for text in held) for task_id in got)


@pytest.fixture
def publisher(fleet: Connection, proxy: Proxy) -> Iterator[KombuConnection]:
    """A publisher whose calls time out soon."""
    options = {"fleet": Link(fleet.keys.tag, lambda *_: False), "socket_timeout": 0.3}
    url = transport_url(f"redis://127.0.0.1:{proxy.port}/0")
    with KombuConnection(url, transport_options=options) as found:
        yield found


def soon() -> dict[str, str]:
    return {"id": "t", "eta": (datetime.now(UTC) + timedelta(seconds=60)).isoformat()}


def held(fleet: Connection, client: redis.Redis) -> int:
    """How many messages wait: in the queue, or for their time."""
    return int(client.llen(JOBS)) + int(client.zcard(fleet.keys.deferred))


@pytest.mark.parametrize("headers", [lambda: {"id": "t"}, soon])
def test_a_message_whose_push_was_not_answered_is_there_once(
    fleet: Connection,
    publisher: KombuConnection,
    proxy: Proxy,
    client: redis.Redis,
    headers: Callable[[], dict[str, str]],
) -> None:
    producer = Producer(publisher)
    # From now on the server knows the scripts.
    for each in (headers(), headers()):
        producer.publish({"n": 1}, routing_key=JOBS, headers=each)
    proxy.lose_an_answer()
    producer.publish({"n": 2}, routing_key=JOBS, headers=headers())
    assert proxy.has_lost_it()
    assert held(fleet, client) == 3


def test_a_message_that_is_published_again_since_the_network_was_slow_is_there_once(
    fleet: Connection, publisher: KombuConnection, proxy: Proxy, client: redis.Redis
) -> None:
    producer = Producer(publisher)
    producer.publish({"n": 1}, routing_key=JOBS)
    before = scripts_run(client)
    proxy.drop_packets()
    errors: list[Exception] = []

    def again(error: Exception, interval: float) -> None:
        # What was sent at first arrives now, after all.
        errors.append(error)
        proxy.heal()

    producer.publish(
        {"n": 2}, routing_key=JOBS, retry=True, retry_policy={"errback": again, "max_retries": 5}
    )
    assert isinstance(errors[0], redis.TimeoutError)
    deadline = time.monotonic() + 10
    while scripts_run(client) < before + 2:
        assert time.monotonic() < deadline, "what was sent at first never arrives"
    assert client.llen(JOBS) == 2


def scripts_run(client: redis.Redis) -> int:
    found: dict[str, dict[str, int]] = client.info("commandstats")
    return found["cmdstat_evalsha"]["calls"]
