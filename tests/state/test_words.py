"""A task that ends in no run: a worker gets its message, where somebody waits for Celery's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap
from fleet.tasks.rules import MAX_CRASHES
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Checked, Submission

ASK = Submission("code_generation", {"instruction": "add"})
OVERFLOW = "{fleet}.overflow.code_generator"
ERRBACKS = ('\\"errbacks\\": null', '\\"errbacks\\": [1]')
IGNORED = ('"ignore_result": true', '"ignore_result": false')


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


def submit(fleet: Connection, asked: Submission, *changes: tuple[str, str]) -> str:
    """A task whose message is changed as told; its id."""
    encode = message_encoder()

    def changed(task_id: str, checked: Checked) -> str:
        message = encode(task_id, checked)
        for old, new in changes:
            assert old in message
            message = message.replace(old, new)
        return message

    return fleet.submitter(changed).submit(asked).task_id


def words(fleet: Connection) -> list[bytes]:
    """The messages that any worker of the agent type may take, once its pool's queue is empty."""
    found: list[bytes] = fleet.client.lrange(OVERFLOW, 0, -1)
    assert not found or fleet.client.llen(f"{OVERFLOW}:wake") == 1
    return found


@pytest.mark.parametrize(
    ("changes", "asks"), [((), False), ((IGNORED,), True), ((ERRBACKS,), True)]
)
def test_who_waits_has_the_word_of_a_delayed_task_that_is_cancelled(
    fleet: Connection, changes: tuple[tuple[str, str], ...], asks: bool
) -> None:
    task_id = submit(fleet, replace(ASK, delay=600), *changes)
    assert fleet.tasks.records.cancel(task_id, 60) == "delayed"
    assert [task_id.encode() in each for each in words(fleet)] == [True] * asks
    assert fleet.tasks.records.cancel(task_id, 60) == "cancelled"
    assert len(words(fleet)) == asks


@pytest.mark.parametrize("changes", [(), (IGNORED,)])
def test_who_waits_has_the_word_of_a_delayed_task_that_is_refused(
    fleet: Connection, changes: tuple[tuple[str, str], ...]
) -> None:
    task_id = submit(fleet, replace(ASK, delay=600), *changes)
    for _ in range(2):
        fleet.tasks.on_hold.refuse(
            task_id, OVERFLOW, '{"type": "OverLimit", "message": "full"}', 60
        )
    assert fleet.tasks.records.state(task_id) == "failed"
    assert len(words(fleet)) == len(changes)


@pytest.mark.parametrize("changes", [(), (IGNORED,)])
def test_who_waits_has_the_word_of_a_task_that_kills_its_workers(
    fleet: Connection, changes: tuple[tuple[str, str], ...]
) -> None:
    task_id = submit(fleet, ASK, *changes)
    for number in range(MAX_CRASHES):
        lease = fleet.tasks.records.claim(
            task_id, "codegen-1", "codegen", 0, str(number), "default", ""
        )
        assert isinstance(lease, Lease)
        fleet.tasks.records.begin(lease)
        fleet.client.delete(OVERFLOW)
        reap(fleet)
    assert fleet.tasks.records.state(task_id) == "failed"
    reap(fleet)
    assert len(words(fleet)) == len(changes)
