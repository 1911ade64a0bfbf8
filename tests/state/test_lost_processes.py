"""A worker has lost a prefork child: what it says of the task that the child was given."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.app import Role
from fleet.broker.messages import message_encoder
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import requeue_expired
from fleet.tasks.store import Lease, claim_prefix
from fleet.tasks.submission.checks import Submission
from fleet.worker.lost_children import fail_over_limit, recover_lost_run

ASK = Submission("code_generation", {"instruction": "add"})
ROLE = Role("codegen", "codegen-1")
CHILD, ANOTHER = 101, 1010


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register(ROLE.agent, ROLE.pool, 10, {"host": "here", "pid": "1"})
    return found


@pytest.fixture
def task_id(fleet: Connection) -> str:
    return fleet.submitter(message_encoder()).submit(ASK).task_id


def claimed(fleet: Connection, task_id: str, child: int, agent: str = ROLE.agent) -> Lease:
    name = f"{claim_prefix(child)}{agent}"
    found = fleet.tasks.records.claim(task_id, agent, ROLE.pool, 30, name, "default", "")
    assert isinstance(found, Lease)
    return found


def lost(fleet: Connection, task_id: str, again: bool = False) -> bool:
    return recover_lost_run(fleet, ROLE, task_id, CHILD, redelivered=again)


def test_what_the_child_ran_is_queued_again_as_a_crash(fleet: Connection, task_id: str) -> None:
    claimed(fleet, task_id, CHILD)
    assert lost(fleet, task_id)
    assert requeue_expired(fleet, fleet.tasks.records.expired_leases())["requeued"] == [task_id]
    record = fleet.tasks.records.read(task_id)
    assert (record.state, record.crashes) == ("queued", 1)


@pytest.mark.parametrize(("child", "agent"), [(ANOTHER, ROLE.agent), (CHILD, "codegen-2")])
def test_the_run_of_another_process_goes_on(
    fleet: Connection, task_id: str, child: int, agent: str
) -> None:
    claimed(fleet, task_id, child, agent)
    assert not lost(fleet, task_id)
    fail_over_limit(fleet, ROLE, task_id, CHILD, 5)
    assert fleet.tasks.records.expired_leases() == []
    assert fleet.tasks.records.state(task_id) == "running"


def test_what_was_not_claimed_goes_back_once_and_is_the_reapers_then(
    fleet: Connection, task_id: str
) -> None:
    assert not lost(fleet, task_id)
    assert lost(fleet, task_id, again=True)


def test_what_has_no_record_goes_back_always(fleet: Connection) -> None:
    assert not lost(fleet, "unwritten", again=True)


def test_what_has_ended_goes_back_for_celerys_word(fleet: Connection, task_id: str) -> None:
    lease = claimed(fleet, task_id, CHILD)
    assert fleet.tasks.records.finish(lease, ROLE.pool, "succeeded", 60, {"result": "{}"}).kept
    assert not lost(fleet, task_id, again=True)


def test_over_a_hard_limit_it_has_failed(fleet: Connection, task_id: str) -> None:
    claimed(fleet, task_id, CHILD)
    fail_over_limit(fleet, ROLE, task_id, CHILD, 5)
    record = fleet.tasks.records.read(task_id)
    assert (record.state, record.crashes) == ("failed", 0)
    assert record.error is not None
    assert record.error["type"] == "TaskTimedOut"
