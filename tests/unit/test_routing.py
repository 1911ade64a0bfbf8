"""Ranking and deciding: figures by hand, rejections, limits, and what is stored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.routing.rules.pools import PoolFacts, PoolTable
from fleet.routing.rules.routing import (
    PoolCounts,
    Ranking,
    Rejection,
    RouteRequest,
    best_by_expected_wait,
    decide,
    rank,
)
from fleet.routing.rules.scoring import ScoreWeights
from fleet.routing.rules.strategies import STRATEGIES

NOBODY: frozenset[str] = frozenset()
COMPATIBILITY = {"code_generator": 1.0, "security_scanner": 0.3, "performance_tester": 0.2}


def request(complexity: float = 0.5) -> RouteRequest:
    return RouteRequest("code_generation", "code_generator", complexity, COMPATIBILITY)


def generator(name: str, **facts: float) -> PoolFacts:
    """A pool of weight 5 with 10 slots, of which 2 are taken, unless told otherwise."""
    return PoolFacts(
        name,
        "code_generator",
        name,
        int(facts.get("weight", 5)),
        NOBODY,
        int(facts.get("live_agents", 1)),
        int(facts.get("capacity", 10)),
        int(facts.get("in_flight", 2)),
        facts.get("success_rate", 1.0),
        facts.get("response_seconds", 0.0),
    )


SCANNER = PoolFacts(
    "scan", "security_scanner", "scan", 10, frozenset({"code_generator"}), 1, 4, 1, 0.9, 4.0
)
TESTER = PoolFacts("perf", "performance_tester", "perf", 5, NOBODY, 1, 1, 0)


def test_ai_optimized_gives_the_total_worked_out_by_hand() -> None:
    # success 0.30 x 0.8 = 0.24; response 0.25 / (1 + 1) = 0.125; load 0.20 (1 - 2/10) = 0.16;
    # compatibility 0.15 x 1.0 = 0.15; fit at c = 0.5, w = 7: 0.10 (1 - 2/5) = 0.06
    table = PoolTable.of([generator("gen", weight=7, success_rate=0.8, response_seconds=1.0)])
    decision = decide(rank("ai_optimized", request(), table), table.counts())
    assert decision.candidates[0].terms == pytest.approx(
        {
            "success": 0.24,
            "response": 0.125,
            "load": 0.16,
            "compatibility": 0.15,
            "complexity_fit": 0.06,
        }
    )
    assert decision.scores == {"gen": pytest.approx(0.735)}


def test_a_helping_pool_competes_with_its_own_compatibility() -> None:
    # scan: 0.30 x 0.9 + 0.25/5 + 0.20 (1 - 1/4) + 0.15 x 0.3 + 0.10 x 10/10
    #     = 0.27 + 0.05 + 0.15 + 0.045 + 0.1 = 0.615
    # gen:  0.30 + 0.25 + 0.20 x 0.8 + 0.15 + 0.10 x 5/10 = 0.91
    table = PoolTable.of([SCANNER, generator("gen")])
    decision = decide(rank("ai_optimized", request(0.9), table), table.counts())
    assert decision.pool == "gen"
    assert decision.scores == {"gen": pytest.approx(0.91), "scan": pytest.approx(0.615)}


def test_compatibility_is_a_half_where_the_table_is_silent() -> None:
    silent = RouteRequest("anything", "code_generator", 0.5)
    rule = rank("ai_optimized", silent, PoolTable.of([generator("gen")])).rules[0]
    # success 0.30, response 0.25, compatibility 0.15 x 0.5, fit 0.10
    assert rule.terms == pytest.approx((0.30, 0.25, 0.075, 0.10))


def test_the_rule_is_linear_in_the_load() -> None:
    # base = 0.30 + 0.25 + 0.20 + 0.15 + 0.10 = 1, slope -0.20
    rule = rank("ai_optimized", request(), PoolTable.of([generator("gen")])).rules[0]
    assert rule.base == pytest.approx(1.0)
    assert (rule.per_task, rule.per_load) == (0.0, -0.2)


def test_weights_can_be_set() -> None:
    only_load = ScoreWeights(0.0, 0.0, 1.0, 0.0, 0.0)
    table = PoolTable.of([generator("gen", in_flight=7)])
    ranking = rank("ai_optimized", request(), table, weights=only_load)
    assert decide(ranking, table.counts()).scores == {"gen": pytest.approx(0.3)}


def test_exact_counts_win_over_the_snapshot() -> None:
    table = PoolTable.of([generator("quiet", in_flight=0), generator("busy", in_flight=9)])
    ranking = rank("ai_optimized", request(), table)
    exact = {"quiet": PoolCounts(1, 10, 10), "busy": PoolCounts(1, 3, 10)}
    decision = decide(ranking, exact)
    assert decision.pool == "busy"
    assert decision.rejected == (Rejection("quiet", "full: 10 of 10 slots taken"),)


def test_every_pool_passed_over_has_its_reason() -> None:
    table = PoolTable.of([TESTER, generator("dead"), generator("full"), generator("unknown")])
    ranking = rank("ai_optimized", request(), table)
    decision = decide(ranking, {"dead": PoolCounts(0, 0, 0), "full": PoolCounts(2, 20, 20)})
    assert decision.pool is None
    assert decision.candidates == ()
    assert dict(decision.rejected) == {
        "perf": "serves performance_tester and does not help code_generator",
        "dead": "no live agent",
        "full": "full: 20 of 20 slots taken",
        "unknown": "no live agent",
    }


def test_dead_and_full_pools_stay_in_the_ranking() -> None:
    table = PoolTable.of(
        [generator("dead", live_agents=0, capacity=0, in_flight=0), generator("full", in_flight=10)]
    )
    ranking = rank("ai_optimized", request(), table)
    assert {rule.pool for rule in ranking.rules} == {"dead", "full"}
    assert ranking.rejected == ()


def test_a_tie_goes_to_the_smaller_load_and_then_by_name() -> None:
    # 2 in flight each, so all totals are -2; loads 2/10, 2/20, 2/20
    table = PoolTable.of([generator("a"), generator("c", capacity=20), generator("b", capacity=20)])
    decision = decide(rank("least_connections", request(), table), table.counts())
    assert list(decision.scores) == ["b", "c", "a"]


def test_an_agent_type_that_nobody_serves_is_explained() -> None:
    lonely = RouteRequest("translate", "translator", 0.5)
    ranking = rank("ai_optimized", lonely, PoolTable.of([TESTER]))
    assert ranking.rules == ()
    assert ranking.rejected[0].reason == "serves performance_tester and does not help translator"
    assert decide(ranking, {}).pool is None


def test_rules_come_best_slow_terms_first() -> None:
    # slow terms leave the load out: the busy one is ahead, having a better success rate
    table = PoolTable.of([generator("worse", success_rate=0.9), generator("better", in_flight=9)])
    ranking = rank("ai_optimized", request(), table)
    assert [rule.pool for rule in ranking.rules] == ["better", "worse"]


def test_a_ranking_of_many_pools_keeps_those_that_would_win_now() -> None:
    # pool-000 to pool-099 with success 0.00 to 0.99; the upper half is full
    table = PoolTable.of(
        generator(f"pool-{n:03}", success_rate=n / 100, in_flight=10 if n >= 50 else 0)
        for n in range(100)
    )
    ranking = rank("ai_optimized", request(), table, limit=3)
    assert [rule.pool for rule in ranking.rules] == ["pool-049", "pool-048", "pool-047"]
    assert ranking.omitted == 97


def test_a_ranking_of_equal_pools_keeps_the_first_by_load_and_name() -> None:
    pools = [generator(f"pool-{n:02}", capacity=20 if n % 2 else 10) for n in range(40)]
    ranking = rank("least_connections", request(), PoolTable.of(reversed(pools)), limit=3)
    assert [rule.pool for rule in ranking.rules] == ["pool-01", "pool-03", "pool-05"]


def test_strangers_past_the_first_few_are_counted() -> None:
    strangers = [
        PoolFacts(f"perf-{n:02}", "performance_tester", f"perf-{n:02}", 5, NOBODY, 1, 1, 0)
        for n in range(20)
    ]
    ranking = rank("ai_optimized", request(), PoolTable.of(strangers))
    assert len(ranking.rejected) == 16
    assert ranking.omitted == 4


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_ranking_survives_its_text(strategy: str) -> None:
    table = PoolTable.of([TESTER, SCANNER, generator("gen", success_rate=1 / 3)])
    ranking = rank(strategy, request(), table, rng=np.random.default_rng(1))
    stored = json.loads(json.dumps(ranking.to_json()))
    assert Ranking.from_json(stored) == ranking
    assert decide(Ranking.from_json(stored), table.counts()) == decide(ranking, table.counts())


def test_a_stored_decision_shows_what_the_atomic_step_picked() -> None:
    table = PoolTable.of([generator("a"), generator("b")])
    ranking = rank("least_loaded", request(), table)
    assert decide(ranking, table.counts(), chosen="b").pool == "b"
    assert decide(ranking, table.counts(), chosen=None).pool is None
    assert decide(ranking, table.counts()).pool == "a"


def test_a_decision_prints_every_number_under_its_name() -> None:
    table = PoolTable.of([generator("gen", in_flight=5), TESTER])
    shown = decide(rank("least_loaded", request(), table), table.counts()).to_json()
    assert shown == {
        "strategy": "least_loaded",
        "pool": "gen",
        "candidates": [
            {
                "pool": "gen",
                "total": -0.5,
                "terms": {},
                "in_flight": 5,
                "capacity": 10,
                "load": 0.5,
            }
        ],
        "rejected": [
            {
                "pool": "perf",
                "reason": "serves performance_tester and does not help code_generator",
            }
        ],
        "omitted": 0,
        "weights": {},
    }


def test_a_decision_prints_its_terms_by_name() -> None:
    table = PoolTable.of([generator("gen", in_flight=5)])
    shown = decide(rank("ai_optimized", request(), table), table.counts()).to_json()
    # 0.20 (1 - 5/10)
    assert shown["candidates"][0]["terms"]["load"] == pytest.approx(0.1)


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="use one of: ai_optimized, expected_wait"):
        rank("best", request(), PoolTable.of([generator("gen")]))


@pytest.mark.parametrize("complexity", [-0.01, 1.01, math.nan, math.inf])
def test_a_complexity_out_of_range_is_refused(complexity: float) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        rank("ai_optimized", request(complexity), PoolTable.of([generator("gen")]))


def test_two_pools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="two pools are named gen"):
        PoolTable.of([generator("gen"), generator("gen")])


def test_expected_wait_prefers_the_quicker_of_two_equally_busy_pools() -> None:
    # (2 + 1) x 2 s / 10 = 0.6 s against (2 + 1) x 1 s / 10 = 0.3 s
    table = PoolTable.of(
        [generator("slow", response_seconds=2.0), generator("swift", response_seconds=1.0)]
    )
    assert best_by_expected_wait(table, "code_generator", {}) == "swift"
    # after four sends of its own: (2 + 4 + 1) x 1 s / 10 = 0.7 s
    assert best_by_expected_wait(table, "code_generator", {"swift": 4}) == "slow"


def test_expected_wait_takes_an_unmeasured_pool_for_as_quick_as_the_quickest() -> None:
    # new: (4 + 1) x 2 s / 10 = 1 s; old: (2 + 1) x 2 s / 10 = 0.6 s
    table = PoolTable.of([generator("new", in_flight=4), generator("old", response_seconds=2.0)])
    assert best_by_expected_wait(table, "code_generator", {}) == "old"


def test_expected_wait_goes_to_full_pools_but_never_to_dead_ones() -> None:
    table = PoolTable.of(
        [generator("dead", live_agents=0, in_flight=0), generator("full", in_flight=10)]
    )
    assert best_by_expected_wait(table, "code_generator", {}) == "full"
    assert best_by_expected_wait(table, "translator", {}) is None
