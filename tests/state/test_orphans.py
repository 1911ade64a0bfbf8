"""Money that is held for nobody is found and given back; what is held for somebody stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.budgets import upkeep_store as money_upkeep
from fleet.budgets.reservation import CallLimits, ScopeLimits
from fleet.budgets.rules.usage_counters import ReservedAmounts, held_by_scope
from fleet.ledger.rules.entries import LOST
from fleet.ledger.verification import verify
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.reaper import reap
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

ASK = Submission("code_generation", {"instruction": "add"}, "acme")
WORST = ModelCall("gpt-5", "openai", "first", "", 100, 0, 50, 9_000)
USED = ModelCall("gpt-5", "openai", "first", "ok", 80, 0, 10, 4_000)
LIMITS = CallLimits("0", ScopeLimits())


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of('[models]\ncatalogue = "reference"'))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


def submit(fleet: Connection) -> str:
    return fleet.submitter(message_encoder()).submit(ASK).task_id


def run(fleet: Connection, steps: int = 1) -> Lease:
    """A task that runs, and has steps under way."""
    lease = fleet.tasks.records.claim(submit(fleet), "codegen-1", "codegen", 30, "a", "acme", "")
    assert isinstance(lease, Lease)
    for call in range(1, 1 + steps):
        assert fleet.tasks.model_calls.admit(lease, call, WORST, LIMITS) is None
    return lease


def adds_up(fleet: Connection) -> bool:
    book, reserved = fleet.budgets.usage.read(), fleet.budgets.usage.reserved()
    held = {scope: each for scope, each in book.held.items() if any(each)}
    assert held == {s: each for s, each in held_by_scope(reserved.all).items() if any(each)}
    return verify(fleet.ledger).differences == ()


def held(fleet: Connection) -> ReservedAmounts:
    return fleet.budgets.usage.read().held["all"]


def test_what_is_held_for_a_waiting_or_a_running_task_stays(fleet: Connection) -> None:
    submit(fleet)
    run(fleet)
    before = fleet.budgets.usage.read(), fleet.budgets.usage.reserved()
    assert reap(fleet)["orphaned"] == []
    assert (fleet.budgets.usage.read(), fleet.budgets.usage.reserved()) == before


def test_what_is_held_for_a_task_whose_record_is_gone_is_given_back(fleet: Connection) -> None:
    task_id = submit(fleet)
    assert held(fleet).amount > 0
    fleet.client.delete(fleet.keys.task(task_id))
    assert reap(fleet)["orphaned"] == [task_id]
    assert held(fleet) == ReservedAmounts()
    assert adds_up(fleet)
    assert reap(fleet)["orphaned"] == []


def test_steps_of_a_task_whose_record_is_gone_are_charged_at_their_worst(fleet: Connection) -> None:
    lease = run(fleet, steps=2)
    fleet.client.delete(fleet.keys.task(lease.task_id))
    assert reap(fleet)["orphaned"] == [lease.task_id]
    entries = fleet.ledger.entries.newest(5)
    assert [(e.kind, e.task, e.amount, e.certain) for e in entries] == [
        (LOST, lease.task_id, 9_000, 0)
    ] * 2
    assert held(fleet) == ReservedAmounts()
    assert fleet.budgets.usage.reserved().all == ()
    assert adds_up(fleet)
    assert not fleet.client.exists(fleet.keys.task(lease.task_id))


def test_a_task_that_has_ended_keeps_nothing_and_its_late_usage_is_put_right(
    fleet: Connection,
) -> None:
    lease = run(fleet)
    # As a hand would do it that knows nothing of the money.
    fleet.client.hset(fleet.keys.task(lease.task_id), "state", "cancelled")
    assert reap(fleet)["orphaned"] == [lease.task_id]
    assert held(fleet) == ReservedAmounts()
    assert fleet.tasks.records.read(lease.task_id).cost_nanodollars == 9_000
    assert adds_up(fleet)
    fleet.tasks.model_calls.settle(lease, 1, USED)
    assert fleet.tasks.records.read(lease.task_id).cost_nanodollars == 4_000
    assert fleet.budgets.usage.read().counters["all"].popitem()[1].amount == 4_000
    assert adds_up(fleet)


def test_a_step_that_its_record_does_not_name_is_charged_once(fleet: Connection) -> None:
    lease = run(fleet)
    record = fleet.keys.task(lease.task_id)
    fleet.client.hset(record, "state", "failed")
    fleet.client.hdel(record, "open")
    assert reap(fleet)["orphaned"] == [lease.task_id]
    fleet.tasks.model_calls.settle(lease, 1, USED)
    assert fleet.tasks.records.read(lease.task_id).cost_nanodollars == 4_000
    assert adds_up(fleet)


def test_the_script_judges_again_when_it_is_called(fleet: Connection) -> None:
    lease = run(fleet)
    before = fleet.budgets.usage.read(), fleet.budgets.usage.reserved()
    calls = [f"{lease.fence}.1"]
    assert not fleet.budgets.upkeep.release(lease.task_id, calls)
    assert (fleet.budgets.usage.read(), fleet.budgets.usage.reserved()) == before
    fleet.client.delete(fleet.keys.task(lease.task_id))
    answers = [fleet.budgets.upkeep.release(lease.task_id, calls) for _ in range(3)]
    assert answers == [True, False, False]
    assert fleet.ledger.entries.length() == 1
    assert adds_up(fleet)


def test_rounds_look_at_some_each_and_find_all(
    fleet: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(money_upkeep, "LOOKED_AT", {"reservations": 20, "open_steps": 20})
    tasks = fleet.submitter(message_encoder()).submit_many([ASK] * 700)
    gone = {task.task_id for task in tasks[::7]}
    for task_id in gone:
        fleet.client.delete(fleet.keys.task(task_id))
    rounds: list[list[str]] = []
    while not rounds or fleet.client.hget(fleet.keys.orphans, "reservations") != b"0":
        rounds.append(fleet.budgets.upkeep.release_orphans())
    assert len(rounds) > 10
    assert max(map(len, rounds)) <= 40
    assert sorted(task_id for found in rounds for task_id in found) == sorted(gone)
    assert held(fleet).tasks == 600
    assert adds_up(fleet)
