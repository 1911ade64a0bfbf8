"""Routes that change while producers run, and who is overtaken by whom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.policy.store import Scope
from fleet.routing.routes import Routes, set_route
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import reap
from fleet.tasks.submission.checks import Submission

POOLS = """
[pools.big]
agent_type = "code_generator"
slots = 3

[pools.helper]
agent_type = "security_scanner"
slots = 2
helps = ["*"]

[[routing.rules]]
tenant = "acme"
strategy = "least_connections"
"""
ASK = Submission("code_generation", {"instruction": "add"}, tenant="acme")
OTHER = Submission("code_generation", {"instruction": "add"}, tenant="other")
SCAN = Submission("security_analysis", {"source": "x = 1"})


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    fleet = open_connection(settings_of(POOLS))
    fleet.routing.agents.register("big-1", "big", 3, {})
    return fleet


def change(fleet: Connection, strategy: str, scope: Scope | None = None, **weights: float) -> None:
    scope = scope or Scope()
    set_route(fleet.policy.store, fleet.settings, fleet.strategies, scope, strategy, weights)


def test_the_narrowest_rule_of_the_configuration_holds(fleet: Connection) -> None:
    submitter = fleet.submitter(message_encoder())
    assert submitter.submit(ASK).plan.ranking.strategy == "least_connections"
    assert submitter.submit(OTHER).plan.ranking.strategy == fleet.settings.config.strategy


def test_a_change_holds_for_the_very_next_task_of_every_producer(fleet: Connection) -> None:
    producers = [fleet.submitter(message_encoder()) for _ in range(3)]
    for producer in producers:
        producer.submit(OTHER)
    change(fleet, "ai_optimized", load=0.9)
    for producer in producers:
        ranking = producer.submit(OTHER).plan.ranking
        assert ranking.strategy == "ai_optimized"
        assert ranking.weights["load"] == 0.9
    assert fleet.policy.store.clear_route(Scope())
    assert producers[0].submit(OTHER).plan.ranking.strategy == fleet.settings.config.strategy


def test_a_task_is_written_once_though_its_plan_was_made_again(
    fleet: Connection, client: redis.Redis
) -> None:
    producer = fleet.submitter(message_encoder())
    producer.submit(OTHER)
    change(fleet, "least_loaded")
    done = producer.submit_many([OTHER, ASK, OTHER])
    assert len({each.task_id for each in done}) == 3
    assert client.zcard(fleet.keys.tasks) == 4
    assert [each.plan.ranking.strategy for each in done].count("least_loaded") == 2


def test_what_is_set_for_a_request_type_gives_way_to_the_rule_of_a_tenant(
    fleet: Connection,
) -> None:
    change(fleet, "round_robin", Scope("code_generation"))
    submitter = fleet.submitter(message_encoder())
    assert submitter.submit(ASK).plan.ranking.strategy == "least_connections"
    assert submitter.submit(OTHER).plan.ranking.strategy == "round_robin"
    change(fleet, "least_loaded", Scope("code_generation", "acme"))
    assert submitter.submit(ASK).plan.ranking.strategy == "least_loaded"


@pytest.mark.parametrize(
    ("strategy", "scope", "weights", "says"),
    [
        ("best", Scope(), {}, "no strategy is called 'best'"),
        ("soonest", Scope("dreaming"), {}, "no request type is called 'dreaming'"),
        ("soonest", Scope("", "a|b"), {}, "'a.b' is no tenant name"),
        ("soonest", Scope(), {"speed": 1.0}, "no weight is called 'speed'"),
        ("soonest", Scope(), {"load": 1.5}, "weight load is 1.5"),
    ],
)
def test_a_route_that_cannot_be_is_refused_and_nothing_changes(
    fleet: Connection, strategy: str, scope: Scope, weights: dict[str, float], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        change(fleet, strategy, scope, **weights)
    assert fleet.policy.store.read().version == "0"


def test_a_strategy_that_is_not_installed_here_is_no_silent_default(fleet: Connection) -> None:
    fleet.policy.store.set_route(Scope(), {"strategy": "of_others", "weights": {}})
    with pytest.raises(InvalidConfig, match="install the package here too"):
        fleet.submitter(message_encoder()).submit(OTHER)


def test_an_unknown_strategy_in_the_configuration_is_found_at_the_start(
    settings_of: Callable[[str], Settings],
) -> None:
    with pytest.raises(InvalidConfig, match=r"fleet.toml: strategy: no strategy is called 'dice'"):
        open_connection(settings_of('strategy = "dice"'))


def test_a_helper_takes_others_tasks_only_while_it_has_none_of_its_own(
    fleet: Connection,
) -> None:
    fleet.routing.agents.register("helper-1", "helper", 2, {})
    fleet.routing.agents.leave("big-1", "big")
    submitter = fleet.submitter(message_encoder())
    assert submitter.submit(ASK).placed.detail == "helper"
    assert submitter.submit(SCAN).placed.detail == "helper"
    fleet.routing.agents.register("helper-2", "helper", 2, {})
    # it has room, but a scan waits in its queue
    assert submitter.submit(ASK).placed.status == "overflow"


def test_below_the_floor_nobody_helps(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> None:
    settings = settings_of(POOLS + "\n[routing]\nhelper_floor = 0.31\n")
    assert settings.config.helped_by("helper") == frozenset()
    assert settings_of(POOLS).config.helped_by("helper") == {"code_generator"}


def test_nobody_is_overtaken_by_a_task_that_comes_as_a_slot_falls_free(
    fleet: Connection, client: redis.Redis
) -> None:
    submitter = fleet.submitter(message_encoder())
    first = submitter.submit(ASK)
    places = [submitter.submit(ASK).placed.status for _ in range(4)]
    assert places == ["pool", "pool", "overflow", "overflow"]
    client.srem(fleet.keys.pool("big").in_flight, first.task_id)
    # one slot is free and two wait for it
    assert submitter.submit(ASK).placed.status == "overflow"


def test_a_task_for_one_pool_waits_for_that_pool_alone(
    fleet: Connection, client: redis.Redis
) -> None:
    fleet.routing.agents.register("helper-1", "helper", 2, {})
    submitter = fleet.submitter(message_encoder())
    pinned = Submission("code_generation", {"instruction": "add"}, pool="big")
    places = [submitter.submit(pinned).placed for _ in range(4)]
    assert [place.status for place in places] == ["pool", "pool", "pool", "overflow"]
    assert client.llen("{fleet}.big") == 4
    assert client.llen("{fleet}.overflow.code_generator") == 0
    assert client.scard(fleet.keys.pool("big").in_flight) == 3


def test_a_dry_run_is_decided_by_the_same_step_and_writes_nothing(
    fleet: Connection, client: redis.Redis
) -> None:
    submitter = fleet.submitter(message_encoder())
    first = submitter.submit(ASK)
    for _ in range(4):
        submitter.submit(ASK)
    client.srem(fleet.keys.pool("big").in_flight, first.task_id)
    before = {key: client.dump(key) for key in client.keys("*")}
    decision, model, *_ = submitter.dry_run(ASK)
    # a slot is free, and two wait for it already
    assert decision.pool is None
    assert [candidate.pool for candidate in decision.candidates] == ["big"]
    assert model.model
    assert {key: client.dump(key) for key in client.keys("*")} == before


def test_a_helper_that_was_closed_to_others_is_open_to_its_own(fleet: Connection) -> None:
    fleet.routing.agents.register("helper-1", "helper", 2, {})
    submitter = fleet.submitter(message_encoder())
    submitter.submit(SCAN)
    submitter.planner.snapshot._read_at["code_generation"] -= 1.5
    submitter.submit(ASK)  # its answer says that the helper has work of its own
    helper = submitter.planner.snapshot.facts["helper"]
    assert (helper.health_state, helper.openings) == ("in", 2)


def test_the_weights_of_a_rule_replace_single_ones_of_the_configuration(
    settings_of: Callable[[str], Settings],
) -> None:
    rule = '[[routing.rules]]\ntenant = "acme"\nstrategy = "soonest"\nweights = { load = 0.4 }\n'
    settings = settings_of(f"[routing.weights]\nsuccess = 0.9\n{rule}")
    weights = Routes(settings.config, {}).of("code_generation", "acme").weights
    assert (weights.success, weights.load, weights.response) == (0.9, 0.4, 0.25)


def test_a_task_for_one_pool_goes_back_to_that_pool_when_its_worker_dies(
    fleet: Connection, client: redis.Redis
) -> None:
    pinned = Submission("code_generation", {"instruction": "add"}, pool="big")
    task = fleet.submitter(message_encoder()).submit(pinned).task_id
    client.delete("{fleet}.big")
    fleet.tasks.records.claim(task, "big-1", "big", 0, "a", "acme", "")
    assert reap(fleet)["requeued"] == [task]
    assert client.llen("{fleet}.big") == 1
    assert client.llen("{fleet}.overflow.code_generator") == 0
