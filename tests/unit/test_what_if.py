"""A fleet on paper: its pools, its routes, its models and what they cost."""

from __future__ import annotations

import pytest

from fleet.agent import installed_agents
from fleet.errors import InvalidRequest
from fleet.models.rules.choice import REFERENCE_CATALOGUE
from fleet.routing.routes import Routes
from fleet.routing.rules.scoring import ScoreWeights
from fleet.routing.rules.strategies import STRATEGIES
from fleet.settings import parse_config
from fleet.simulation.rules.pools import Skill
from fleet.simulation.rules.replay import Experience, PastTask
from fleet.simulation.source import SyntheticLoad, rate_for_load, synthetic_source
from fleet.simulation.what_if import WhatIf

CONFIG = """
strategy = "least_loaded"

[pools.codegen]
agent_type = "code_generator"
slots = 4
min = 2
helps = ["security_scanner"]

[pools.scanner]
agent_type = "security_scanner"
slots = 2
min = 0

[models]
catalogue = "reference"

[[routing.rules]]
tenant = "acme"
strategy = "ai_optimized"

[request_types.code_generation]
agent_type = "code_generator"
[request_types.security_analysis]
agent_type = "security_scanner"
"""
CODE, SCAN = ("code_generation", "default", 0.5), ("security_analysis", "default", 0.5)


def what_if(**changes: object) -> WhatIf:
    config = parse_config(CONFIG, "fleet.toml")
    fleet = WhatIf("now", config, REFERENCE_CATALOGUE, Routes(config, {}), installed_agents())
    return WhatIf(**{**{f: getattr(fleet, f) for f in fleet.__slots__}, **changes})  # type: ignore[arg-type]


def test_a_pool_has_its_min_agents_or_as_many_as_it_once_kept_busy() -> None:
    slots = {pool.name: pool.slots for pool in what_if().pools()}
    assert slots == {"codegen": 8, "scanner": 2}
    busy = {"codegen": 3, "scanner": 5}
    assert [pool.slots for pool in what_if().pools(None, busy)] == [8, 6]


def test_without_a_record_a_helper_is_as_good_as_it_suits_the_request() -> None:
    codegen, scanner = what_if().pools()
    assert codegen.helps == {"security_scanner"}
    assert codegen.skill_at("security_analysis", 0.0) == Skill(1.0, 0.4)
    assert codegen.skill_at("code_generation", 0.0) == Skill(1.0, 1.0)
    assert scanner.skill_at("security_analysis", 0.0) == Skill(1.0, 1.0)


def test_with_a_record_a_pool_is_as_skilled_as_it_shows() -> None:
    tasks = [PastTask(0.0, "code_generation", 4.0, good=n < 8, pool="codegen") for n in range(10)]
    codegen, _ = what_if().pools(Experience.of(tasks))
    assert codegen.skill_at("code_generation", 0.0) == pytest.approx((0.25, 0.8))


def test_tasks_go_by_the_configured_routes_unless_a_strategy_is_given() -> None:
    kinds = [CODE, ("code_generation", "acme", 0.5)]
    ways = what_if().ways(kinds, STRATEGIES)
    assert [way.strategy for way in ways] == ["least_loaded", "ai_optimized"]
    changed = what_if(strategy="soonest", weights={"load": 0.0}).ways(kinds, STRATEGIES)
    assert [way.strategy for way in changed] == ["soonest", "soonest"]
    assert changed[0].weights == ScoreWeights(load=0.0)


def test_names_that_are_not_known_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no request type is called 'nap'"):
        what_if().kinds([("nap", "default", 0.5)])
    with pytest.raises(InvalidRequest, match="no strategy is called 'luck'"):
        what_if(strategy="luck").ways([CODE], STRATEGIES)


def test_a_recorded_task_costs_what_it_did_or_its_tokens_at_the_chosen_models_price() -> None:
    fleet = what_if()
    (chosen,) = fleet.chosen([CODE])
    assert chosen.model == "gpt-5"
    same = PastTask(0.0, "code_generation", 1.0, model="gpt-5", cost_nanodollars=77)
    other = PastTask(0.0, "code_generation", 1.0, model="old", input_tokens=1000, output_tokens=500)
    silent = PastTask(0.0, "code_generation", 1.0, model="old", cost_nanodollars=77)
    assert fleet.cost(chosen, same, 1) == 77
    assert fleet.cost(chosen, other, 1) == 2_000_000 + 3_000_000
    assert fleet.cost(chosen, silent, 2) == 2 * chosen.cost_nanodollars


def test_a_rate_is_found_that_loads_the_busiest_agent_type_to_four_fifths() -> None:
    # Eight slots for code, two for scans: of three tasks one is a scan, which takes 10 s.
    shares = {"code_generation": 2.0, "security_analysis": 1.0}
    assert rate_for_load(what_if(), shares, 10.0) == pytest.approx(0.8 * 2 / 10.0 * 3)


def test_a_synthetic_source_draws_each_request_type_by_its_share() -> None:
    load = SyntheticLoad(4000, mix={"code_generation": 3.0, "security_analysis": 1.0})
    source = synthetic_source(load, what_if(), seed=2, max_runs=1)
    drawn = [source.kinds[kind][0] for kind in source.workload.kind.tolist()]
    assert drawn.count("code_generation") / 4000 == pytest.approx(0.75, abs=0.02)
    assert {complexity for _, _, complexity in source.kinds} == {0.2, 0.5, 0.9}
