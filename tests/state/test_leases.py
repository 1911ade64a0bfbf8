"""Claim, renew, finish, cancel, requeue: who may write, judged by the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import LeaseLost
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.reaper import reap
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission

ASK = Submission("code_generation", {"instruction": "add"})
OVERFLOW = "{fleet}.overflow.code_generator"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    found = open_connection(settings_of(""))
    found.routing.agents.register("codegen-1", "codegen", 10, {"host": "here", "pid": "1"})
    return found


@pytest.fixture
def task_id(fleet: Connection) -> str:
    return fleet.submitter(message_encoder()).submit(ASK).task_id


def claim(fleet: Connection, task_id: str, name: str = "a", seconds: float = 30) -> Lease | str:
    return fleet.tasks.records.claim(task_id, "codegen-1", "codegen", seconds, name, "acme", "")


def claimed(fleet: Connection, task_id: str, name: str = "a", seconds: float = 30) -> Lease:
    lease = claim(fleet, task_id, name, seconds)
    assert isinstance(lease, Lease)
    return lease


def begun(fleet: Connection, task_id: str, name: str, seconds: float = 30) -> Lease:
    lease = claimed(fleet, task_id, name, seconds)
    fleet.tasks.records.begin(lease)
    return lease


def finish(fleet: Connection, lease: Lease, state: str = "succeeded") -> bool:
    return fleet.tasks.records.finish(lease, "codegen", state, 60, {"result": "{}"}).kept


def in_flight(fleet: Connection) -> int:
    return fleet.routing.pools.counts(["codegen"])["codegen"].in_flight


def test_a_second_delivery_of_a_running_task_gets_no_lease(
    fleet: Connection, task_id: str
) -> None:
    claimed(fleet, task_id, "a")
    assert claim(fleet, task_id, "b") == "held"


def test_a_claim_sent_again_gets_the_same_fence(fleet: Connection, task_id: str) -> None:
    assert claimed(fleet, task_id, "a") == claimed(fleet, task_id, "a")


def test_an_ended_task_is_not_run_again(fleet: Connection, task_id: str) -> None:
    assert finish(fleet, claimed(fleet, task_id))
    assert claim(fleet, task_id, "b") == "ended"


def test_an_ended_lease_passes_on_and_its_late_holder_can_write_nothing(
    fleet: Connection, task_id: str
) -> None:
    late = claimed(fleet, task_id, "a", seconds=0)
    new = claimed(fleet, task_id, "b")
    assert new.fence > late.fence
    assert not finish(fleet, late, "failed")
    assert not fleet.tasks.records.renew(late, 30)
    assert finish(fleet, new)
    assert fleet.tasks.records.read(task_id).state == "succeeded"


def test_a_redelivery_gives_a_task_that_kills_its_workers_no_more_of_them(
    fleet: Connection, task_id: str
) -> None:
    for name in "abc":
        begun(fleet, task_id, name, seconds=0)
    assert claim(fleet, task_id, "d") == "spent"
    assert in_flight(fleet) == 0
    reap(fleet)
    assert fleet.tasks.records.read(task_id).state == "failed"
    assert claim(fleet, task_id, "e") == "ended"


def test_finishing_twice_counts_once(fleet: Connection, task_id: str) -> None:
    lease = claimed(fleet, task_id)
    assert finish(fleet, lease)
    assert finish(fleet, lease)
    counts = fleet.routing.pools.counts(["codegen"])["codegen"]
    assert (counts.overall.successes, counts.overall.outcomes, counts.in_flight) == (1, 1, 0)


def test_a_pool_remembers_its_last_hundred_outcomes(fleet: Connection) -> None:
    submitter = fleet.submitter(message_encoder())
    states = ["failed"] * 30 + ["succeeded"] * 90
    for state in states:
        finish(fleet, claimed(fleet, submitter.submit(ASK).task_id), state)
    overall = fleet.routing.pools.counts(["codegen"])["codegen"].overall
    assert (overall.successes, overall.outcomes) == (90, 100)
    assert overall.success_rate == 0.9


def test_a_cancelled_task_says_nothing_about_its_pool(fleet: Connection, task_id: str) -> None:
    lease = claimed(fleet, task_id)
    fleet.tasks.records.finish(lease, "codegen", "cancelled", 60, {}, counts_for_pool=False)
    assert fleet.routing.pools.counts(["codegen"])["codegen"].overall.outcomes == 0


def test_cancelling_a_queued_task_gives_its_slot_back(fleet: Connection, task_id: str) -> None:
    assert in_flight(fleet) == 1
    assert fleet.tasks.records.cancel(task_id, 60) == "queued"
    assert in_flight(fleet) == 0
    assert claim(fleet, task_id) == "ended"


def test_a_task_that_waits_without_a_slot_can_be_cancelled(
    fleet: Connection, client: redis.Redis
) -> None:
    submitter = fleet.submitter(message_encoder())
    waiting = submitter.submit_many([ASK] * 11)[-1]
    assert waiting.placed.status == "overflow"
    assert fleet.tasks.records.cancel(waiting.task_id, 60) == "queued"
    assert in_flight(fleet) == 10


def test_cancelling_a_running_task_asks_its_worker(fleet: Connection, task_id: str) -> None:
    lease = claimed(fleet, task_id)
    assert fleet.tasks.records.check_leases([(lease, False)], 30) == ["kept"]
    assert fleet.tasks.records.cancel(task_id, 60) == "running"
    assert fleet.tasks.records.check_leases([(lease, False)], 30) == ["cancelled"]


def test_spend_is_counted_once_a_call_whoever_holds_the_lease(
    fleet: Connection, task_id: str
) -> None:
    late = claimed(fleet, task_id, "a", seconds=0)
    claimed(fleet, task_id, "b")
    for _ in range(2):
        step = ModelCall("gpt", "openai", "first", "ok", 10, 4, 20, 7, seconds=1.5)
        assert fleet.tasks.model_calls.settle(late, 1, step).spent == 7
    record = fleet.tasks.records.read(task_id)
    assert (record.input_tokens, record.output_tokens, record.cost_nanodollars) == (10, 20, 7)


def test_the_reaper_gives_a_task_with_an_ended_lease_to_others(
    fleet: Connection, task_id: str, client: redis.Redis
) -> None:
    claimed(fleet, task_id, seconds=0)
    assert reap(fleet)["requeued"] == [task_id]
    assert reap(fleet)["requeued"] == []
    assert fleet.tasks.records.read(task_id).state == "queued"
    assert client.llen(OVERFLOW) == 1
    assert in_flight(fleet) == 0


def test_a_task_whose_workers_died_three_times_fails(fleet: Connection, task_id: str) -> None:
    for name in "ab":
        claimed(fleet, task_id, name, seconds=0)
        assert reap(fleet)["requeued"] == [task_id]
    begun(fleet, task_id, "c", seconds=0)
    assert reap(fleet)["failed"] == [task_id]
    record = fleet.tasks.records.read(task_id)
    assert record.state == "failed"
    assert record.error is not None
    assert "died in 3 attempts" in record.error["message"]


def test_a_cancelled_task_whose_worker_died_does_not_run_again(
    fleet: Connection, task_id: str
) -> None:
    claimed(fleet, task_id, seconds=0)
    assert fleet.tasks.records.cancel(task_id, 60) == "running"
    assert reap(fleet)["unwanted"] == [task_id]
    assert fleet.tasks.records.read(task_id).state == "cancelled"
    assert fleet.client.scard(fleet.keys.cancelled) == 0


def test_a_cancelled_task_that_fails_is_wanted_stopped_no_more(
    fleet: Connection, task_id: str
) -> None:
    for name in "ab":
        claimed(fleet, task_id, name, seconds=0)
        assert reap(fleet)["requeued"] == [task_id]
    begun(fleet, task_id, "c", seconds=0)
    assert fleet.tasks.records.cancel(task_id, 60) == "running"
    assert reap(fleet)["failed"] == [task_id]
    assert fleet.client.scard(fleet.keys.cancelled) == 0


def test_a_claim_that_is_sent_again_lasts_from_then_on(fleet: Connection, task_id: str) -> None:
    claimed(fleet, task_id, "a", seconds=5)
    first = float(fleet.client.hget(fleet.keys.task(task_id), "lease_until") or 0)
    claimed(fleet, task_id, "a", seconds=50)
    again = float(fleet.client.hget(fleet.keys.task(task_id), "lease_until") or 0)
    assert again > first + 40_000
    assert fleet.client.zscore(fleet.keys.leases, task_id) == again


def test_the_reaper_leaves_a_live_lease_alone(fleet: Connection, task_id: str) -> None:
    claimed(fleet, task_id)
    assert not any(reap(fleet).values())


def test_what_waits_for_a_pool_without_agents_moves_to_the_overflow_queue(
    fleet: Connection, task_id: str, client: redis.Redis
) -> None:
    fleet.routing.agents.leave("codegen-1", "codegen")
    assert reap(fleet)["rescued"] == [task_id]
    assert (client.llen("{fleet}.codegen"), client.llen(OVERFLOW)) == (0, 1)
    assert in_flight(fleet) == 0


def crashed_twice(fleet: Connection, task_id: str) -> None:
    for name in "ab":
        claimed(fleet, task_id, name, seconds=0)
        assert reap(fleet)["requeued"] == [task_id]


def test_a_task_stands_aside_before_the_run_whose_crash_would_end_it(
    fleet: Connection, task_id: str
) -> None:
    for name in "ab":
        assert not claimed(fleet, task_id, name, seconds=0).must_run_alone
        reap(fleet)
    assert claimed(fleet, task_id, "c").must_run_alone
    assert claimed(fleet, task_id, "c").must_run_alone


def test_a_death_while_it_stands_aside_is_no_crash_of_a_task_and_no_outcome_of_its_pool(
    fleet: Connection, task_id: str
) -> None:
    crashed_twice(fleet, task_id)
    claimed(fleet, task_id, "c", seconds=0)
    assert reap(fleet)["requeued"] == [task_id]
    claimed(fleet, task_id, "d", seconds=0)
    assert claimed(fleet, task_id, "e", seconds=0).must_run_alone
    record = fleet.tasks.records.read(task_id)
    assert (record.crashes, record.attempts) == (2, 5)
    whys = [move.why for move in record.history if "aside" in move.why]
    assert whys == [
        "it stood aside when its lease ended",
        "taken over, it stood aside when its lease ended",
    ]
    assert fleet.routing.pools.counts(["codegen"])["codegen"].overall.outcomes == 2


def test_a_run_that_has_begun_crashes_for_good_however_often_its_begin_is_sent(
    fleet: Connection, task_id: str
) -> None:
    crashed_twice(fleet, task_id)
    lease = claimed(fleet, task_id, "c", seconds=0)
    fleet.tasks.records.begin(lease)
    started = fleet.tasks.records.read(task_id).started
    fleet.tasks.records.begin(lease)
    assert fleet.tasks.records.read(task_id).started == started
    assert reap(fleet)["failed"] == [task_id]


def test_a_run_that_lost_its_lease_does_not_begin(fleet: Connection, task_id: str) -> None:
    crashed_twice(fleet, task_id)
    late = claimed(fleet, task_id, "c", seconds=0)
    claimed(fleet, task_id, "d")
    with pytest.raises(LeaseLost):
        fleet.tasks.records.begin(late)
    assert fleet.client.hexists(fleet.keys.task(task_id), "aside")
