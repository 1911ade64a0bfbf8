"""A running task that is given back: by whom, to whom, and what becomes of its money."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.requeue import Requeued, requeue_on_shutdown
from fleet.tasks.rules import MAX_CRASHES
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

ASK = Submission("code_generation", {"instruction": "add"})
OVERFLOW = "{fleet}.overflow.code_generator"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


def submit(fleet: Connection, ask: Submission = ASK) -> str:
    return fleet.submitter(message_encoder()).submit(ask).task_id


def claimed(fleet: Connection, task_id: str, name: str = "a", plan: str = "") -> Lease:
    lease = fleet.tasks.records.claim(task_id, "codegen-1", "codegen", 0, name, "acme", plan)
    assert isinstance(lease, Lease)
    return lease


def test_a_task_given_back_waits_before_all_others_without_slot_or_lease(
    fleet: Connection, client: redis.Redis
) -> None:
    lease = claimed(fleet, submit(fleet))
    client.lpush(OVERFLOW, "another")
    raised = requeue_on_shutdown(fleet.settings, fleet.tasks.records, lease)
    assert isinstance(raised, Requeued)
    assert raised.is_queued
    record = fleet.tasks.records.read(lease.task_id)
    assert (record.state, record.pool) == ("queued", "")
    last = record.history[-1]
    assert (last.state, last.by, last.why) == ("queued", "codegen-1", "given back")
    assert client.rpop(OVERFLOW) == client.hget(fleet.keys.task(lease.task_id), "message")
    assert client.llen(OVERFLOW + ":wake") == 1
    assert client.zcard(fleet.keys.leases) == 0
    assert fleet.routing.pools.counts(["codegen"])["codegen"].in_flight == 0


def test_a_message_that_was_given_back_and_is_lost_is_missed(
    fleet: Connection, client: redis.Redis
) -> None:
    lease = claimed(fleet, submit(fleet))
    requeue_on_shutdown(fleet.settings, fleet.tasks.records, lease)
    assert fleet.tasks.queue_index.missing() == []
    client.delete(OVERFLOW)
    assert [each.task_id for each in fleet.tasks.queue_index.missing()] == [lease.task_id]


def test_giving_back_twice_queues_the_task_once(fleet: Connection, client: redis.Redis) -> None:
    lease = claimed(fleet, submit(fleet))
    assert [fleet.tasks.records.requeue_on_shutdown(lease, OVERFLOW) for _ in range(2)] == [
        "given_back"
    ] * 2
    assert client.llen(OVERFLOW) == 1


def test_a_late_holder_gives_nothing_back(fleet: Connection, client: redis.Redis) -> None:
    late = claimed(fleet, submit(fleet), "a")
    new = claimed(fleet, late.task_id, "b")
    assert fleet.tasks.records.requeue_on_shutdown(late, OVERFLOW) == "lost"
    assert client.llen(OVERFLOW) == 0
    assert fleet.tasks.records.renew(new, 30)


def test_an_ended_task_is_not_given_back(fleet: Connection) -> None:
    lease = claimed(fleet, submit(fleet))
    fleet.tasks.records.finish(lease, "codegen", "succeeded", 60, {"result": "{}"})
    assert fleet.tasks.records.requeue_on_shutdown(lease, OVERFLOW) == "lost"
    assert fleet.tasks.records.read(lease.task_id).state == "succeeded"


def test_runs_that_were_given_back_are_no_crashes_of_task_or_pool(fleet: Connection) -> None:
    task_id = submit(fleet)
    for name in "abcde":
        assert (
            fleet.tasks.records.requeue_on_shutdown(claimed(fleet, task_id, name), OVERFLOW)
            == "given_back"
        )
    claimed(fleet, task_id, "f")
    record = fleet.tasks.records.read(task_id)
    assert (record.attempts, record.crashes) == (6, 0)
    assert fleet.tasks.records.requeue(record, OVERFLOW, MAX_CRASHES) == "requeued"
    # The one that was not given back is the only outcome.
    assert fleet.routing.pools.counts(["codegen"])["codegen"].overall.outcomes == 1


def test_the_task_keeps_its_money(fleet: Connection, client: redis.Redis) -> None:
    lease = claimed(fleet, submit(fleet))
    before = client.hget(fleet.keys.reservations, lease.task_id)
    assert before is not None
    fleet.tasks.records.requeue_on_shutdown(lease, OVERFLOW)
    assert client.hget(fleet.keys.reservations, lease.task_id) == before


def test_a_task_that_somebody_cancelled_ends_when_it_is_given_back(
    fleet: Connection, client: redis.Redis
) -> None:
    lease = claimed(fleet, submit(fleet))
    assert fleet.tasks.records.cancel(lease.task_id, 60) == "running"
    requeue_on_shutdown(fleet.settings, fleet.tasks.records, lease)
    assert fleet.tasks.records.read(lease.task_id).state == "cancelled"
    assert client.scard(fleet.keys.cancelled) == 0


def test_a_task_without_a_message_of_its_own_needs_the_delivered_one(
    fleet: Connection, client: redis.Redis
) -> None:
    lease = claimed(fleet, submit(fleet))
    client.hdel(fleet.keys.task(lease.task_id), "message")
    raised = requeue_on_shutdown(fleet.settings, fleet.tasks.records, lease)
    assert isinstance(raised, Requeued)
    assert not raised.is_queued
    assert client.llen(OVERFLOW) == 0


def test_a_task_of_one_pool_waits_in_the_queue_of_that_pool(
    fleet: Connection, client: redis.Redis
) -> None:
    lease = claimed(fleet, submit(fleet, replace(ASK, pool="codegen")))
    client.delete("{fleet}.codegen")
    requeue_on_shutdown(fleet.settings, fleet.tasks.records, lease)
    assert (client.llen("{fleet}.codegen"), client.llen(OVERFLOW)) == (1, 0)


def test_what_begins_after_the_notice_is_given_back_too(fleet: Connection) -> None:
    keeper = LeaseKeeper(fleet.tasks.records, 30, 10)
    before, after = claimed(fleet, submit(fleet)), claimed(fleet, submit(fleet), "b")
    told: list[str] = []
    keeper.hold(before, lambda verdict: told.append(f"before {verdict}"))
    keeper.requeue_all()
    keeper.hold(after, lambda verdict: told.append(f"after {verdict}"))
    assert told == ["before shutdown", "after shutdown"]
