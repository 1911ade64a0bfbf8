"""The health of pools on a real Valkey: out, on probation, and back by degrees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import NoAgentAvailable
from fleet.routing.health import look_at_pools
from fleet.routing.rules.health import HealthPolicy
from fleet.routing.rules.pools import PoolCounts
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap
from fleet.tasks.store import Lease
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitter

TWO_POOLS = """
[pools.good]
agent_type = "code_generator"
slots = 10

[pools.bad]
agent_type = "code_generator"
slots = 10
"""
ASK = Submission("code_generation", {"instruction": "add"}, tenant="acme")
QUICK = HealthPolicy(eject_seconds=0.0, good_probes=2, probes=2, ramp_seconds=1e6)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    fleet = open_connection(settings_of(TWO_POOLS))
    for pool in ("good", "bad"):
        fleet.routing.agents.register(f"{pool}-1", pool, 10, {})
    return fleet


@pytest.fixture
def submitter(fleet: Connection) -> Submitter:
    return fleet.submitter(message_encoder())


def counts(fleet: Connection, pool: str = "bad") -> PoolCounts:
    return fleet.routing.pools.counts([pool], ["code_generation"])[pool]


def run(fleet: Connection, submitter: Submitter, pool: str, state: str) -> None:
    """One task in a pool, from submission to its end."""
    task = submitter.submit(ASK).task_id
    lease = fleet.tasks.records.claim(task, f"{pool}-1", pool, 30, task, "acme", "")
    assert isinstance(lease, Lease)
    fleet.tasks.records.finish(lease, pool, state, 60, {})


def eject(fleet: Connection, policy: HealthPolicy = QUICK) -> bool:
    return fleet.routing.pools.eject("bad", ["good"], "5 failures in a row", policy)


def test_failures_in_a_row_take_a_pool_out_and_its_tasks_go_elsewhere(
    fleet: Connection, submitter: Submitter
) -> None:
    for _ in range(5):
        run(fleet, submitter, "bad", "failed")
    assert look_at_pools(fleet.settings, fleet.routing.pools, "code_generator")["ejected"] == [
        "bad"
    ]
    out = counts(fleet)
    assert (out.open_slots, out.health_state) == (0, "ejected")
    assert out.reason == "5 failures in a row (30 s left)"
    assert {submitter.submit(ASK).placed.detail for _ in range(5)} == {"good"}


def test_a_look_at_healthy_pools_changes_nothing(fleet: Connection, submitter: Submitter) -> None:
    run(fleet, submitter, "bad", "failed")
    looked = look_at_pools(fleet.settings, fleet.routing.pools, "code_generator")
    assert looked == {"ejected": [], "readmitted": []}


def test_the_last_pool_in_is_not_taken_out(fleet: Connection) -> None:
    fleet.routing.agents.leave("good-1", "good")
    assert not eject(fleet)
    fleet.routing.agents.register("good-1", "good", 10, {})
    fleet.routing.pools.maintain("good", True)
    assert not eject(fleet)
    fleet.routing.pools.maintain("good", False)
    assert eject(fleet)
    assert not fleet.routing.pools.eject("good", ["bad"], "slow", QUICK)


def test_after_its_time_a_pool_gets_a_few_probes(fleet: Connection) -> None:
    assert eject(fleet)
    row = counts(fleet)
    assert (row.open_slots, row.capacity, row.health_state) == (2, 10, "probation")


def test_good_probes_bring_a_pool_back_by_degrees_and_its_old_failures_are_forgotten(
    fleet: Connection, submitter: Submitter
) -> None:
    run(fleet, submitter, "bad", "failed")
    eject(fleet)
    run(fleet, submitter, "bad", "succeeded")
    assert counts(fleet).health_state == "probation"
    run(fleet, submitter, "bad", "succeeded")
    row = counts(fleet)
    # just begun: as many as there were probes
    assert (row.open_slots, row.health_state) == (2, "returning")
    assert (row.overall.outcomes, row.overall.successes) == (2, 2)


def test_with_the_ramp_all_slots_are_open_again(fleet: Connection, submitter: Submitter) -> None:
    eject(fleet, HealthPolicy(eject_seconds=0.0, good_probes=1, ramp_seconds=0.0))
    run(fleet, submitter, "bad", "succeeded")
    row = counts(fleet)
    assert (row.open_slots, row.health_state) == (10, "in")


def test_a_bad_probe_takes_the_pool_out_for_twice_the_time(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    eject(fleet, HealthPolicy(eject_seconds=40.0))
    facts = fleet.keys.pool("bad").facts
    health = client.hget(facts, "health").decode().split(",")
    health[1] = "0"  # its time is up
    client.hset(facts, "health", ",".join(health))
    run(fleet, submitter, "bad", "failed")
    row = counts(fleet)
    assert row.health_state == "ejected"
    assert row.reason == "5 failures in a row (80 s left)"


def test_an_ejected_pool_is_put_back_when_its_peers_are_gone(fleet: Connection) -> None:
    eject(fleet, HealthPolicy())
    fleet.routing.agents.leave("good-1", "good")
    looked = look_at_pools(fleet.settings, fleet.routing.pools, "code_generator")
    assert looked["readmitted"] == ["bad"]
    assert counts(fleet).health_state == "in"


def test_a_pool_in_maintenance_gets_nothing_and_what_waits_for_it_moves_on(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    fleet.routing.agents.leave("good-1", "good")
    task = submitter.submit(ASK)
    assert task.placed.detail == "bad"
    fleet.routing.agents.register("good-1", "good", 10, {})
    fleet.routing.pools.maintain("bad", True)
    assert {submitter.submit(ASK).placed.detail for _ in range(5)} == {"good"}
    assert reap(fleet)["rescued"] == [task.task_id]
    assert client.llen("{fleet}.bad") == 0
    assert client.llen("{fleet}.overflow.code_generator") == 1
    assert counts(fleet).in_flight == 0


def test_with_all_pools_in_maintenance_a_task_is_refused(
    fleet: Connection, submitter: Submitter
) -> None:
    for pool in ("good", "bad"):
        fleet.routing.pools.maintain(pool, True)
    with pytest.raises(NoAgentAvailable):
        submitter.submit(ASK)


def test_each_request_type_has_a_statistic_of_its_own(
    fleet: Connection, submitter: Submitter
) -> None:
    run(fleet, submitter, "bad", "failed")
    row = fleet.routing.pools.counts(["bad"], ["security_analysis", "code_generation"])["bad"]
    assert set(row.by_request) == {"code_generation"}
    assert row.by_request["code_generation"].failures_in_row == 1
    assert row.overall == row.by_request["code_generation"]


def test_the_response_time_begins_with_the_first_and_moves_by_a_tenth(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    for seconds in (10, 20):
        task = submitter.submit(ASK).task_id
        lease = fleet.tasks.records.claim(task, "bad-1", "bad", 30, task, "acme", "")
        assert isinstance(lease, Lease)
        started = int(client.hget(fleet.keys.task(task), "started")) - seconds * 1000
        client.hset(fleet.keys.task(task), "started", started)
        fleet.tasks.records.finish(lease, "bad", "succeeded", 60, {})
    # 10, then 0.1 x 20 + 0.9 x 10 = 11
    assert counts(fleet).overall.response_seconds == pytest.approx(11.0, abs=0.1)


def test_a_half_life_without_an_outcome_halves_what_is_known(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    for _ in range(8):
        run(fleet, submitter, "bad", "failed")
    facts = fleet.keys.pool("bad").facts
    last, rest = client.hget(facts, "stat").decode().split(",", 1)
    client.hset(facts, "stat", f"{int(last) - 700_000},{rest}")
    assert counts(fleet).overall.age_seconds >= 700
    run(fleet, submitter, "bad", "succeeded")
    overall = counts(fleet).overall
    # half of eight, and the new one; it failed in no row since
    assert (overall.outcomes, overall.successes, overall.failures_in_row) == (5, 1, 0)


def test_a_run_that_nobody_ended_counts_as_a_failure_of_its_pool_once(
    fleet: Connection, submitter: Submitter
) -> None:
    task = submitter.submit(ASK).task_id
    assert isinstance(fleet.tasks.records.claim(task, "bad-1", "bad", 0, "a", "acme", ""), Lease)
    assert reap(fleet)["requeued"] == [task]
    assert reap(fleet)["requeued"] == []
    overall = counts(fleet).overall
    assert (overall.outcomes, overall.failures_in_row) == (1, 1)


def test_slots_that_a_dead_process_left_behind_are_freed(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    kept = submitter.submit(ASK)
    elsewhere = submitter.submit(ASK)
    slots = fleet.keys.pool("bad").in_flight
    client.delete(slots, fleet.keys.pool("good").in_flight)
    client.hset(fleet.keys.task(kept.task_id), "pool", "bad")
    client.hset(fleet.keys.task(elsewhere.task_id), "pool", "good")
    client.sadd(slots, kept.task_id, elsewhere.task_id, "expired-long-ago")
    assert set(reap(fleet)["repaired"]) == {elsewhere.task_id, "expired-long-ago"}
    assert client.smembers(slots) == {kept.task_id.encode()}


def test_an_answer_that_did_not_pass_its_check_is_no_success_and_no_failure_in_a_row(
    fleet: Connection, submitter: Submitter
) -> None:
    run(fleet, submitter, "bad", "failed")
    run(fleet, submitter, "bad", "unverified")
    overall = counts(fleet).overall
    assert (overall.outcomes, overall.successes, overall.failures_in_row) == (2, 0, 1)
