"""What holds of every decision, whatever the figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.choice import Model, Price, choose
from fleet.money import Tokens
from fleet.routing.rules.pools import PoolCounts, PoolFacts, PoolTable
from fleet.routing.rules.routing import RouteDecision, RouteRequest, decide, rank
from fleet.routing.rules.strategies import NO_TURNS, STRATEGIES, Turn, advance

TYPES = ("code_generator", "security_scanner", "performance_tester")
NOISE = 1e-9
GENERAL = Tokens(300, 800)
fractions = st.floats(0, 1)
strategies = st.sampled_from(sorted(STRATEGIES))


@st.composite
def pool_facts(draw: st.DrawFn) -> PoolFacts:
    agent_type = draw(st.sampled_from(TYPES))
    capacity = draw(st.integers(0, 20))
    name = draw(st.text("abcdef", min_size=1, max_size=4))
    return PoolFacts(
        name=name,
        agent_type=agent_type,
        queue=name,
        weight=draw(st.integers(1, 10)),
        spillover=draw(st.frozensets(st.sampled_from(TYPES))) - {agent_type},
        live_agents=draw(st.integers(0, 2)),
        capacity=capacity,
        in_flight=draw(st.integers(0, capacity)),
        success_rate=draw(fractions),
        response_seconds=draw(st.floats(0, 1000)),
    )


fleets = st.lists(pool_facts(), max_size=30, unique_by=lambda pool: pool.name)
requests = st.builds(
    RouteRequest,
    st.just("code_generation"),
    st.sampled_from(TYPES),
    fractions,
    st.dictionaries(st.sampled_from(TYPES), fractions),
)
prices = st.floats(0, 1)
models = st.builds(
    Model,
    st.text("abc", min_size=1, max_size=3),
    st.just("provider"),
    st.builds(Price.per_thousand, prices, prices),
    fractions,
    fractions,
    st.floats(0.1, 10),
)


def dice() -> np.random.Generator:
    """One whose lots fall the same way each time, for the same question."""
    return np.random.default_rng(7)


def routed(strategy: str, request: RouteRequest, pools: list[PoolFacts]) -> RouteDecision:
    table = PoolTable.of(pools)
    turns = {request.agent_type: Turn("c", {pool.name: len(pool.name) for pool in pools})}
    return decide(rank(strategy, request, table, turns, rng=dice()), table.counts())


@given(requests, fleets)
def test_the_terms_sum_to_the_total(request: RouteRequest, pools: list[PoolFacts]) -> None:
    for candidate in routed("ai_optimized", request, pools).candidates:
        assert sum(candidate.terms.values()) == pytest.approx(candidate.total, abs=NOISE)
        assert -NOISE <= candidate.total <= 1 + NOISE


@given(strategies, requests, fleets)
def test_a_task_goes_only_to_a_live_pool_with_room_that_serves_it(
    strategy: str, request: RouteRequest, pools: list[PoolFacts]
) -> None:
    decision = routed(strategy, request, pools)
    fit = {pool.name for pool in pools if pool.has_room and pool.serves(request.agent_type)}
    assert set(decision.scores) <= fit
    assert decision.pool in fit if fit else decision.pool is None


@given(strategies, requests, fleets)
def test_every_pool_is_a_candidate_or_rejected_or_counted(
    strategy: str, request: RouteRequest, pools: list[PoolFacts]
) -> None:
    decision = routed(strategy, request, pools)
    named = [*decision.scores, *(rejection.pool for rejection in decision.rejected)]
    assert len(named) == len(set(named))
    assert len(named) + decision.omitted == len(pools)


@given(strategies, requests, fleets, st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(
    strategy: str, request: RouteRequest, pools: list[PoolFacts], rng: Random
) -> None:
    shuffled = list(pools)
    rng.shuffle(shuffled)
    assert routed(strategy, request, shuffled) == routed(strategy, request, pools)


@given(strategies, requests, fleets)
def test_leaving_rules_out_never_changes_the_pick_on_a_fresh_snapshot(
    strategy: str, request: RouteRequest, pools: list[PoolFacts]
) -> None:
    table = PoolTable.of(pools)
    few = decide(rank(strategy, request, table, limit=2, rng=dice()), table.counts())
    limit = len(pools) + 1
    every = decide(rank(strategy, request, table, limit=limit, rng=dice()), table.counts())
    assert few.pool == every.pool


@given(requests, pool_facts(), fractions, st.floats(0, 1000), st.integers(0, 20))
def test_a_better_value_never_lowers_a_score(
    request: RouteRequest, pool: PoolFacts, success: float, seconds: float, in_flight: int
) -> None:
    pool = replace(pool, agent_type=request.agent_type, live_agents=1, capacity=21)
    better = replace(
        pool,
        success_rate=max(pool.success_rate, success),
        response_seconds=min(pool.response_seconds, seconds),
        in_flight=min(pool.in_flight, in_flight),
    )
    before = routed("ai_optimized", request, [pool]).scores[pool.name]
    assert routed("ai_optimized", request, [better]).scores[pool.name] >= before - NOISE


@given(requests, pool_facts(), fractions)
def test_a_better_compatibility_never_lowers_a_score(
    request: RouteRequest, pool: PoolFacts, suits: float
) -> None:
    pool = replace(pool, agent_type=request.agent_type, live_agents=1, capacity=21)
    known = {request.agent_type: suits / 2}
    better = {request.agent_type: suits}
    before = routed("ai_optimized", replace(request, compatibility=known), [pool])
    after = routed("ai_optimized", replace(request, compatibility=better), [pool])
    assert after.scores[pool.name] >= before.scores[pool.name] - NOISE


@given(st.lists(st.integers(1, 10), min_size=1, max_size=8), st.integers(1, 3))
def test_weighted_round_robin_is_exact_over_a_cycle(weights: list[int], cycles: int) -> None:
    agent_type, strategy = "code_generator", "weighted_round_robin"
    table = PoolTable.of(
        PoolFacts(f"p{n}", agent_type, f"p{n}", weight, frozenset(), 1, 1000, 0)
        for n, weight in enumerate(weights)
    )
    turns, counts = NO_TURNS, Counter[str]()
    for _ in range(cycles * sum(weights)):
        best = rank(strategy, RouteRequest("any", agent_type), table, turns).rules[0].pool
        counts[best] += 1
        turns = advance(turns, strategy, table, agent_type, best)
    assert counts == {f"p{n}": cycles * weight for n, weight in enumerate(weights)}
    assert set(turns[agent_type].credits.values()) == {0}


@given(strategies, requests, fleets, st.data())
def test_the_load_gates_as_well_as_ranks(
    strategy: str, request: RouteRequest, pools: list[PoolFacts], data: st.DataObject
) -> None:
    table = PoolTable.of(pools)
    ranking, loads = rank(strategy, request, table, rng=dice()), table.counts()
    best = decide(ranking, loads).pool
    if best is not None:
        full = data.draw(st.integers(1, 50))
        after = decide(ranking, {**loads, best: PoolCounts(1, full, full)})
        assert after.pool != best
        assert (best, f"full: {full} of {full} slots taken") in after.rejected


@given(st.lists(models, min_size=1, max_size=6, unique_by=lambda model: model.name), fractions)
def test_models_come_best_first_in_any_order(catalogue: list[Model], complexity: float) -> None:
    decision = choose(catalogue, GENERAL, complexity)
    scores = [each.score for each in decision.ranking]
    assert scores == sorted(scores, reverse=True)
    assert choose(reversed(catalogue), GENERAL, complexity) == decision


@given(models, fractions, fractions, fractions, prices, prices, fractions)
def test_a_better_model_never_scores_lower(
    model: Model,
    complexity: float,
    quality: float,
    speed: float,
    price: float,
    saved: float,
    priority: float,
) -> None:
    model = replace(model, price=Price.per_thousand(price, price))
    better = replace(
        model,
        quality=max(model.quality, quality),
        speed=max(model.speed, speed),
        price=Price.per_thousand(price, price * (1 - saved)),
        free=price == 0,
    )

    def score(each: Model) -> float:
        return choose([each], GENERAL, complexity, priority / 2, 0.5 - priority / 4).best.score

    assert score(better) >= score(model) - NOISE


@given(st.lists(models, min_size=1, max_size=6), st.integers(0, 10**9))
def test_no_chosen_model_costs_more_than_the_limit(catalogue: list[Model], limit: int) -> None:
    free = Model("free", "local", None, 0.0, 0.0, free=True)
    decision = choose([*catalogue, free], GENERAL, limit_nanodollars=limit)
    assert all(each.cost_nanodollars <= limit for each in decision.ranking)
    assert len(decision.ranking) + len(decision.rejected) == len(catalogue) + 1
