"""The atomic step of a submission, on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import InvalidRequest, NoAgentAvailable
from fleet.models.complexity import Complexity
from fleet.redis.keys import wake
from fleet.routing.rules.routing import PoolCounts, Ranking, decide
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import RequestChecks, Submission
from fleet.tasks.submission.submit import Submitter, route_decision

TWO_POOLS = """
[pools.big]
agent_type = "code_generator"
weight = 5
slots = 3

[pools.small]
agent_type = "code_generator"
weight = 1
slots = 1
"""
ASK = Submission("code_generation", {"instruction": "add"}, tenant="acme")


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(TWO_POOLS))


@pytest.fixture
def submitter(fleet: Connection) -> Submitter:
    return fleet.submitter(message_encoder())


def join(fleet: Connection, pool: str, agent: str = "") -> None:
    slots = fleet.settings.config.pools[pool].slots
    fleet.routing.agents.register(agent or f"{pool}-1", pool, slots, {})


def test_without_a_live_agent_nothing_is_written(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    with pytest.raises(NoAgentAvailable) as refused:
        submitter.submit(ASK)
    assert refused.value.retry_after == 30.0
    assert client.keys("*") == []


def test_a_task_takes_a_slot_and_its_message_waits_in_the_pools_queue(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    done = submitter.submit(ASK)
    assert done.placed.detail == "big"
    assert client.smembers(fleet.keys.pool("big").in_flight) == {done.task_id.encode()}
    assert client.llen("{fleet}.big") == 1
    assert client.llen(wake("{fleet}.big")) == 1
    assert fleet.tasks.records.read(done.task_id).state == "queued"


def test_nothing_at_all_may_be_submitted(submitter: Submitter) -> None:
    assert submitter.submit_many([]) == []


def test_no_pool_ever_gets_more_than_its_slots_and_the_rest_waits_in_the_overflow_queue(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    join(fleet, "small")
    places = [done.placed for done in submitter.submit_many([ASK] * 7)]
    assert [place.detail for place in places].count("big") == 3
    assert [place.detail for place in places].count("small") == 1
    assert [place.status for place in places].count("overflow") == 3
    assert client.llen("{fleet}.overflow.code_generator") == 3
    assert client.llen(wake("{fleet}.overflow.code_generator")) == 1


@pytest.mark.parametrize(
    "strategy",
    ["ai_optimized", "round_robin", "least_connections", "least_loaded", "weighted_round_robin"],
)
def test_the_script_picks_as_the_core_does(
    client: redis.Redis, settings_of: Callable[[str], Settings], strategy: str
) -> None:
    fleet = open_connection(settings_of(f'strategy = "{strategy}"\n' + TWO_POOLS))
    submitter = fleet.submitter(message_encoder())
    for agent in ("big-1", "big-2"):
        join(fleet, "big", agent)
    join(fleet, "small")
    for _ in range(9):
        done = submitter.submit(ASK)
        shown = route_decision(done.plan.ranking, done.placed.loads, done.placed.detail)
        loads = {
            each.pool: PoolCounts(1, each.in_flight, each.capacity) for each in shown.candidates
        }
        again = decide(done.plan.ranking, loads)
        assert again.pool == (done.placed.detail or None)


def test_the_stored_ranking_explains_the_decision(fleet: Connection, submitter: Submitter) -> None:
    join(fleet, "big")
    done = submitter.submit(ASK)
    record = fleet.tasks.records.read(done.task_id)
    assert record.ranking is not None
    decision = route_decision(Ranking.from_json(record.ranking), record.loads, record.routed)
    assert decision == route_decision(done.plan.ranking, done.placed.loads, done.placed.detail)
    assert [rejection.reason for rejection in decision.rejected if rejection.pool == "small"] == [
        "no live agent"
    ]


def test_a_repeated_idempotency_key_gives_the_first_task(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    once = Submission("code_generation", {"instruction": "add"}, idempotency_key="order-7")
    first, second = submitter.submit(once), submitter.submit(once)
    assert second.task_id == first.task_id
    assert client.llen("{fleet}.big") == 1


def test_an_idempotency_key_for_another_request_is_refused(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    submitter.submit(Submission("code_generation", {"instruction": "a"}, idempotency_key="k"))
    with pytest.raises(InvalidRequest, match="another request"):
        submitter.submit(Submission("code_generation", {"instruction": "b"}, idempotency_key="k"))
    assert client.llen("{fleet}.big") == 1


def test_an_entry_sent_twice_is_placed_once(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    checked = submitter.checks.check(ASK)
    message = submitter.encode("a-task", checked)
    first = submitter.place("a-task", message, checked)
    assert submitter.place("a-task", message, checked).placed == first.placed
    assert client.llen("{fleet}.big") == 1


def test_keys_of_every_script_share_one_hash_tag(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    submitter.submit(Submission("code_generation", {"instruction": "a"}, idempotency_key="k"))
    assert all(key.startswith(b"{fleet}") for key in client.keys("*"))


def test_many_in_one_round_trip_take_turns_too(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    pools = TWO_POOLS.replace("slots = 1", "slots = 3")
    fleet = open_connection(settings_of('strategy = "round_robin"\n' + pools))
    join(fleet, "big")
    join(fleet, "small")
    places = fleet.submitter(message_encoder()).submit_many([ASK] * 4)
    assert [each.placed.detail for each in places] == ["big", "small", "big", "small"]


def test_a_task_can_be_pinned_to_a_pool_that_serves_it(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "big")
    join(fleet, "small")
    pinned = Submission("code_generation", {"instruction": "add"}, pool="small")
    assert submitter.submit(pinned).placed.detail == "small"
    strange = Submission("security_analysis", {"source": "x = 1"}, pool="small")
    with pytest.raises(InvalidRequest, match="pool that serves security_analysis"):
        submitter.submit(strange)


def test_many_of_several_plans_are_written_each_as_it_was_asked_for(
    fleet: Connection, submitter: Submitter, client: redis.Redis
) -> None:
    join(fleet, "big")
    complexities = [0.1] * 150 + [0.9, 0.1, 0.9]
    asked = [
        Submission("code_generation", {"instruction": "a"}, f"tenant-{number}", complexity)
        for number, complexity in enumerate(complexities)
    ]
    done = submitter.submit_many(asked)
    assert len({each.task_id for each in done}) == len(asked)
    records = [fleet.tasks.records.read(each.task_id) for each in done]
    assert [record.tenant for record in records] == [each.tenant for each in asked]
    assert [record.complexity for record in records] == complexities
    assert client.llen("{fleet}.big") + client.llen("{fleet}.overflow.code_generator") == 153


def test_of_many_with_one_idempotency_key_the_first_counts(
    fleet: Connection, submitter: Submitter
) -> None:
    join(fleet, "big")
    once = Submission("code_generation", {"instruction": "a"}, idempotency_key="k")
    first, second = submitter.submit_many([once, once])
    assert first.task_id == second.task_id
    assert (first.is_new, second.is_new) == (True, False)


def test_a_busy_request_type_does_not_keep_the_facts_of_another_stale(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    fleet = open_connection(settings_of(""))
    planner = fleet.submitter(message_encoder()).planner
    planner.refresh()
    planner.snapshot._read_at["security_analysis"] = -1e9
    assert not planner.snapshot.is_stale("code_generation")
    fleet.routing.agents.register("scanner-1", "scanner", 2, {})
    checks = RequestChecks(fleet.settings, fleet.agents, Complexity(fleet.policy.store))
    planner.plan(checks.check(Submission("security_analysis", {"source": "x = 1"})))
    assert planner.snapshot.facts["scanner"].live_agents == 1
