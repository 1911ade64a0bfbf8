"""The five strategies, and the turns of the two that take turns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolGroup, PoolTable
from fleet.routing.rules.routing import RouteRequest, decide, rank
from fleet.routing.rules.strategies import (
    NO_TURNS,
    STRATEGIES,
    Linear,
    Strategy,
    StrategyContext,
    Turns,
    advance,
)

REQUEST = RouteRequest("code_generation", "code_generator")


def pool(name: str, weight: int = 5, in_flight: int = 0, capacity: int = 10) -> PoolFacts:
    return PoolFacts(name, "code_generator", name, weight, frozenset(), 1, capacity, in_flight)


def picks(strategy: str, table: PoolTable, count: int, turns: Turns = NO_TURNS) -> list[str]:
    """Where `count` tasks go one after another, with loads that stay as they are."""
    picked = []
    for _ in range(count):
        best = decide(rank(strategy, REQUEST, table, turns), table.counts()).pool
        assert best is not None
        picked.append(best)
        turns = advance(turns, strategy, table, REQUEST.agent_type, best)
    return picked


def test_the_strategies_have_their_names() -> None:
    assert set(STRATEGIES) == {
        "ai_optimized",
        "expected_wait",
        "least_connections",
        "least_loaded",
        "power_of_two",
        "round_robin",
        "soonest",
        "weighted_round_robin",
    }


def test_least_connections_counts_tasks_and_least_loaded_counts_shares() -> None:
    # small: 3 of 4 taken = 0.75; large: 5 of 20 taken = 0.25
    table = PoolTable.of([pool("small", in_flight=3, capacity=4), pool("large", 5, 5, 20)])
    assert picks("least_connections", table, 1) == ["small"]
    assert picks("least_loaded", table, 1) == ["large"]


def test_least_connections_breaks_a_tie_by_the_smaller_load() -> None:
    # both 2 in flight: 2 of 4 = 0.5 against 2 of 10 = 0.2
    table = PoolTable.of([pool("a", in_flight=2, capacity=4), pool("b", in_flight=2)])
    assert picks("least_connections", table, 1) == ["b"]


def test_round_robin_goes_round_by_name() -> None:
    table = PoolTable.of([pool("c"), pool("a"), pool("b")])
    assert picks("round_robin", table, 7) == ["a", "b", "c", "a", "b", "c", "a"]


def test_round_robin_goes_on_from_the_pool_really_picked() -> None:
    table = PoolTable.of([pool("a"), pool("b"), pool("c")])
    # a was full, b took the task: c is next, not b again
    turns = advance(NO_TURNS, "round_robin", table, "code_generator", "b")
    assert picks("round_robin", table, 2, turns) == ["c", "a"]


def test_round_robin_goes_on_where_a_pool_has_gone() -> None:
    turns = advance(NO_TURNS, "round_robin", PoolTable.of([pool("b")]), "code_generator", "b")
    table = PoolTable.of([pool("a"), pool("c")])
    assert picks("round_robin", table, 3, turns) == ["c", "a", "c"]


def test_weighted_round_robin_spreads_as_nginx_does() -> None:
    # Weights 5, 1, 1 (total 7); credit after earning, winner, credit after paying:
    #  5  1  1  a -2  1  1
    #  3  2  2  a -4  2  2
    #  1  3  3  b  1 -4  3
    #  6 -3  4  a -1 -3  4
    #  4 -2  5  c  4 -2 -2
    #  9 -1 -1  a  2 -1 -1
    #  7  0  0  a  0  0  0
    table = PoolTable.of([pool("a", 5), pool("b", 1), pool("c", 1)])
    assert picks("weighted_round_robin", table, 7) == ["a", "a", "b", "a", "c", "a", "a"]


def test_weighted_round_robin_gives_a_full_pool_no_burst_afterwards() -> None:
    full = PoolTable.of([pool("a", 5, in_flight=10), pool("b", 1), pool("c", 1)])
    turns: Turns = NO_TURNS
    for _ in range(40):
        best = decide(rank("weighted_round_robin", REQUEST, full, turns), full.counts()).pool
        assert best in {"b", "c"}
        turns = advance(turns, "weighted_round_robin", full, "code_generator", str(best))
    free = PoolTable.of([pool("a", 5), pool("b", 1), pool("c", 1)])
    counts = Counter(picks("weighted_round_robin", free, 14, turns))
    assert counts == {"a": 10, "b": 2, "c": 2}


def test_each_agent_type_has_its_own_turn() -> None:
    table = PoolTable.of([pool("a"), pool("b")])
    turns = advance(NO_TURNS, "round_robin", table, "security_scanner", "a")
    assert picks("round_robin", table, 1, turns) == ["a"]


@pytest.mark.parametrize("strategy", ["ai_optimized", "least_connections", "least_loaded"])
def test_strategies_without_turns_leave_them_alone(strategy: str) -> None:
    table = PoolTable.of([pool("a"), pool("b")])
    assert advance(NO_TURNS, strategy, table, "code_generator", "a") is NO_TURNS


def test_a_pool_that_is_unknown_to_the_snapshot_takes_no_weighted_turn() -> None:
    table = PoolTable.of([pool("a", 5), pool("b", 1)])
    turns = advance(NO_TURNS, "weighted_round_robin", table, "code_generator", "gone")
    assert picks("weighted_round_robin", table, 6, turns).count("a") == 5


def swift(name: str, seconds: float, **more: float) -> PoolFacts:
    """A pool of weight 5 with 10 slots and a response time."""
    return PoolFacts(
        name,
        "code_generator",
        name,
        5,
        frozenset(),
        1,
        10,
        int(more.get("in_flight", 0)),
        more.get("success", 1.0),
        seconds,
    )


def totals(strategy: str, *pools: PoolFacts, complexity: float = 0.0) -> dict[str, float]:
    request = RouteRequest("any", "code_generator", complexity, {"code_generator": 1.0})
    table = PoolTable.of(pools)
    return decide(rank(strategy, request, table), table.counts()).scores


def test_soonest_counts_the_time_to_a_good_answer() -> None:
    # complexity 0 suits all: 4 s / 1.0; 3 s / 0.5 = 6 s
    assert totals("soonest", swift("sure", 4.0), swift("quick", 3.0, success=0.5)) == {
        "sure": pytest.approx(-4.0),
        "quick": pytest.approx(-6.0),
    }


def test_soonest_spreads_tasks_over_pools_that_are_about_as_quick() -> None:
    # 10 (1 + 0.1 x 0.8) = 10.8 against 10.5; 20 is too far behind for its emptiness to count
    found = totals(
        "soonest", swift("busy", 10.0, in_flight=8), swift("free", 10.5), swift("slow", 20.0)
    )
    assert list(found) == ["free", "busy", "slow"]
    assert found["busy"] == pytest.approx(-10.8)


def test_soonest_takes_an_unmeasured_pool_for_as_quick_as_the_quickest() -> None:
    found = totals("soonest", swift("new", 0.0), swift("old", 3.0), swift("slow", 9.0))
    assert found["new"] == found["old"] == pytest.approx(-3.0)
    assert totals("soonest", swift("a", 0.0, in_flight=1), swift("b", 0.0)) == {
        "b": pytest.approx(-1.0),
        "a": pytest.approx(-1.01),
    }


def test_expected_wait_is_the_shortest_queue_in_seconds() -> None:
    # (4 + 1) x 2 s / 10 = 1 s against (0 + 1) x 9 s / 10 = 0.9 s
    assert totals("expected_wait", swift("quick", 2.0, in_flight=4), swift("slow", 9.0)) == {
        "slow": pytest.approx(-0.9),
        "quick": pytest.approx(-1.0),
    }


def test_power_of_two_picks_the_less_loaded_of_two_drawn_by_lot() -> None:
    table = PoolTable.of([swift(f"p{n}", 1.0, in_flight=n) for n in range(6)])
    dice = np.random.default_rng(3)
    picked = Counter(
        decide(rank("power_of_two", REQUEST, table, rng=dice), table.counts()).pool
        for _ in range(3000)
    )
    # of 15 pairs the emptiest is in 5, the next in 4, ...; the fullest never wins
    shares = [picked[f"p{n}"] / 3000 for n in range(6)]
    assert shares == pytest.approx([5 / 15, 4 / 15, 3 / 15, 2 / 15, 1 / 15, 0], abs=0.03)


def test_power_of_two_falls_back_on_the_others_where_both_are_full() -> None:
    table = PoolTable.of([swift("a", 1.0), swift("b", 1.0), swift("c", 1.0)])
    ranking = rank("power_of_two", REQUEST, table, rng=np.random.default_rng(1))
    drawn = [rule.pool for rule in ranking.rules if rule.base == 0]
    assert len(drawn) == 2
    full = {
        name: PoolCounts(1, 10, 10) if name in drawn else PoolCounts(1, 9, 10) for name in "abc"
    }
    assert decide(ranking, full).pool == ({"a", "b", "c"} - set(drawn)).pop()


def test_power_of_two_wants_dice() -> None:
    with pytest.raises(InvalidRequest, match="pass an rng"):
        rank("power_of_two", REQUEST, PoolTable.of([pool("a")]))


def test_a_strategy_may_compute_with_numpys_numbers() -> None:
    def odd(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
        return Linear(np.zeros(len(group.pools)), per_load=-np.float64(0.5))

    ranking = rank("odd", REQUEST, PoolTable.of([pool("a")]), strategies={"odd": Strategy(odd)})
    assert repr(ranking.rules[0].per_load) == "-0.5"


@pytest.mark.parametrize("base", [[np.nan], [1.0, 2.0]])
def test_a_strategy_without_a_number_for_each_pool_is_named(base: list[float]) -> None:
    def bad(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
        return Linear(np.array(base))

    with pytest.raises(InvalidRequest, match="strategy bad must give each of 1 pools"):
        rank("bad", REQUEST, PoolTable.of([pool("a")]), strategies={"bad": Strategy(bad)})


def test_a_strategy_that_breaks_is_named_and_its_error_is_one_of_fleets() -> None:
    def broken(group: PoolGroup, request: RouteRequest, given: StrategyContext) -> Linear:
        raise KeyError("eu")

    strategies = {"broken": Strategy(broken)}
    with pytest.raises(InvalidConfig, match=r"strategy broken .* failed: KeyError: 'eu'"):
        rank("broken", REQUEST, PoolTable.of([pool("a")]), strategies=strategies)
