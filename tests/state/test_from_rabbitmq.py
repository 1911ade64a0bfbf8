"""A Redis that kept the state of a fleet while a RabbitMQ carried its messages is taken over."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.redis.keys import line
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap, retain
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

QUEUE, OVERFLOW = "{fleet}.codegen", "{fleet}.overflow.code_generator"
ASK = Submission("code_generation", {"instruction": "add"})
PAGE = Path(__file__).parents[2] / "docs" / "brokers.md"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


@pytest.fixture
def waiting(fleet: Connection, client: redis.Redis) -> list[str]:
    """Tasks in the keys of the version that had it: two in the pool's queue, two in the overflow
    queue. Of each queue RabbitMQ has one message, and the other one was taken to be given it."""
    done = fleet.submitter(message_encoder()).submit_many([ASK] * 4)
    ids = [each.task_id for each in done]
    for queue, (given, taken) in ((QUEUE, ids[:2]), (OVERFLOW, ids[2:])):
        client.delete(queue, line(queue), f"{queue}:wake")
        client.zadd(f"{queue}:given", {given: 1.7e15, taken: 1.7e15 + 1})
        client.zadd(f"{queue}:taken", {taken: 1.7e12})
        client.hset(fleet.keys.task(taken), "missed", "2")
        client.zadd("{fleet}:outbox", {taken: 1.7e15})
        client.hset("{fleet}:outbox:messages", taken, f"{queue}\na message")
    return ids


def test_what_waited_for_a_pool_is_queued_and_runs(
    fleet: Connection, client: redis.Redis, waiting: list[str]
) -> None:
    assert sorted(reap(fleet)["republished"]) == sorted(waiting[:2])
    assert client.llen(QUEUE) == 2
    for task_id in waiting[:2]:
        lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 30, "a", "default", "")
        assert isinstance(lease, Lease)


def test_what_waited_in_an_overflow_queue_is_queued_as_the_page_says(
    fleet: Connection, client: redis.Redis, waiting: list[str]
) -> None:
    (command,) = re.findall(r"^redis-cli (ZUNIONSTORE .*)$", PAGE.read_text(), re.MULTILINE)
    reap(fleet)
    client.execute_command(*shlex.split(command.replace("TYPE", "code_generator")))
    assert sorted(reap(fleet)["republished"]) == sorted(waiting[2:])
    assert (client.llen(QUEUE), client.llen(OVERFLOW)) == (2, 2)


def test_its_keys_are_in_nobodys_way(
    fleet: Connection, client: redis.Redis, waiting: list[str]
) -> None:
    for task_id in waiting:
        fleet.tasks.records.cancel(task_id, 600)
    reap(fleet)
    retain(fleet)
    assert client.hgetall(fleet.keys.waiting) == {}
    done = fleet.submitter(message_encoder()).submit(ASK)
    assert client.llen(QUEUE) == 1
    assert fleet.tasks.records.read(done.task_id).state == "queued"
    assert reap(fleet)["republished"] == []
