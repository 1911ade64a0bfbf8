"""Bounds on waiting tasks: exact, whoever submits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from processes import at_once

from fleet import Fleet
from fleet.errors import TooBusy
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

PROCESSES, EACH, ROOM = 8, 40, 37
PAYLOAD = {"instruction": "add"}
ASK = Submission("code_generation", PAYLOAD, complexity=0.5)


@pytest.fixture
def make(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Callable[[str], Fleet]:
    def made(limits: str, more: str = "") -> Fleet:
        found = Fleet(settings_of(f"[limits]\n{limits}\n{more}"))
        found._connection.routing.agents.register("codegen-1", "codegen", 10, {})
        return found

    return made


def _submit(ready: Any, settings: Settings) -> tuple[int, list[float]]:
    fleet = Fleet(settings)
    ready.wait()
    let_in, waits = 0, []
    for _ in range(EACH):
        try:
            fleet.submit("code_generation", PAYLOAD, tenant="acme", complexity=0.5)
            let_in += 1
        except TooBusy as error:
            waits.append(error.retry_after)
    return let_in, waits


def from_eight_processes(settings: Settings) -> tuple[int, list[float]]:
    answers = at_once(PROCESSES, _submit, settings)
    return sum(n for n, _ in answers), [wait for _, waits in answers for wait in waits]


@pytest.mark.parametrize(
    ("key", "let_in"),
    # Ten of them take a free slot, and wait for nothing.
    [("waiting_per_tenant", ROOM), ("waiting_per_pool", ROOM + 10)],
)
def test_of_eight_processes_submits_exactly_as_many_are_let_in_as_may_wait(
    make: Callable[[str], Fleet], key: str, let_in: int
) -> None:
    fleet = make(f"{key} = {ROOM}")
    found, waits = from_eight_processes(fleet.settings)
    assert (found, len(waits)) == (let_in, PROCESSES * EACH - let_in)
    assert all(1 <= wait <= 300 for wait in waits)
    state = fleet._connection
    assert state.client.zcard(state.keys.tasks) == let_in
    assert state.budgets.usage.scope_usage(["all"])["all"].held.tasks == let_in
    assert len(state.budgets.usage.reserved().tasks) == let_in


def test_the_error_says_who_waits_and_what_to_do(make: Callable[[str], Fleet]) -> None:
    fleet = make("waiting_per_tenant = 1\n")
    fleet.submit("code_generation", PAYLOAD, tenant="acme")
    with pytest.raises(TooBusy, match=r"1 tasks of tenant:acme wait, the limit is 1;.*per_tenant"):
        fleet.submit("code_generation", PAYLOAD, tenant="acme")
    fleet.submit("code_generation", PAYLOAD, tenant="globex")
    with pytest.raises(TooBusy):
        fleet.dry_run(Submission("code_generation", PAYLOAD, tenant="acme"))


def test_a_full_queue_says_of_which_agent_type(make: Callable[[str], Fleet]) -> None:
    fleet = make("waiting_per_pool = 2")
    fleet.submit_many([ASK] * 12)
    with pytest.raises(TooBusy, match=r"the queue of code_generator wait, the limit is 2;"):
        fleet.submit("code_generation", PAYLOAD)
    with pytest.raises(TooBusy):
        fleet.dry_run(ASK)


def test_of_many_in_one_round_trip_those_that_may_wait_are_let_in(
    make: Callable[[str], Fleet],
) -> None:
    fleet = make("waiting_per_tenant = 5")
    with pytest.raises(TooBusy) as caught:
        fleet.submit_many([ASK] * 9)
    assert len(caught.value.__notes__) == 5


def test_a_task_that_starts_or_is_cancelled_makes_room(make: Callable[[str], Fleet]) -> None:
    fleet = make("waiting_per_tenant = 2")
    first, second = fleet.submit_many([ASK, ASK])
    tasks = fleet._connection.tasks.records
    lease = tasks.claim(first.id, "codegen-1", "codegen", 30, "a", "default", "")
    assert isinstance(lease, Lease)
    third = fleet.submit("code_generation", PAYLOAD)
    second.cancel()
    fleet.submit("code_generation", PAYLOAD)
    with pytest.raises(TooBusy):
        fleet.submit("code_generation", PAYLOAD)
    # What is put back waits again, also where more wait then than may: it was let in before.
    assert (
        fleet._connection.tasks.retries.put_back(lease, "{}", "Unavailable", 0).status == "parked"
    )
    third.cancel()
    with pytest.raises(TooBusy):
        fleet.submit("code_generation", PAYLOAD)


def test_a_task_that_is_parked_waits_too(make: Callable[..., Fleet]) -> None:
    fleet = make("waiting_per_tenant = 2", '[budgets]\nover = "wait"\n')
    key = LimitKey("tenant:default", "month", "requests")
    fleet._connection.policy.store.set_limits({key: 1}, AuditActor("ann", "test"))
    assert [fleet.submit("code_generation", PAYLOAD).state() for _ in "ab"] == ["queued", "parked"]
    with pytest.raises(TooBusy):
        fleet.submit("code_generation", PAYLOAD)


def test_a_delayed_task_waits_too(make: Callable[[str], Fleet]) -> None:
    fleet = make("waiting_per_tenant = 1")
    task = fleet.submit("code_generation", PAYLOAD, delay=3600)
    for delay in (None, 3600):
        with pytest.raises(TooBusy):
            fleet.submit("code_generation", PAYLOAD, delay=delay)
    task.cancel()
    assert fleet.submit("code_generation", PAYLOAD).state() == "queued"


def test_a_repeated_submission_is_answered_although_all_is_full(
    make: Callable[[str], Fleet],
) -> None:
    fleet = make("waiting_per_tenant = 1")
    first = fleet.submit("code_generation", PAYLOAD, idempotency_key="a")
    assert fleet.submit("code_generation", PAYLOAD, idempotency_key="a").id == first.id
