"""The simulator: exact on cases small enough to work out by hand, and right on known formulas."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidRequest
from fleet.routing.rules.health import HealthPolicy
from fleet.routing.rules.pools import PoolCounts
from fleet.routing.rules.routing import decide, pick, rank
from fleet.routing.rules.strategies import STRATEGIES, RouteRequest
from fleet.simulation.rules.central import central_waits
from fleet.simulation.rules.events import Conditions, simulate
from fleet.simulation.rules.outcomes import Outcomes, SimulatedRun
from fleet.simulation.rules.pools import SimulatedFleet, SimulatedPool, Skill
from fleet.simulation.rules.producers import Way
from fleet.simulation.rules.workload import Kind, Workload, lognormal, synthetic

CODE, SCAN = "code_generator", "security_scanner"
KINDS = (
    Kind(RouteRequest("code_generation", CODE, 0.5, {CODE: 1.0, SCAN: 0.4})),
    Kind(RouteRequest("security_analysis", SCAN, 0.5, {CODE: 0.4, SCAN: 1.0})),
)


def load(
    arrival: list[float], work: list[float], kind: int = 0, luck: list[list[float]] | None = None
) -> Workload:
    return Workload(
        np.array(arrival),
        np.array(work),
        np.full(len(arrival), kind, dtype=np.intp),
        np.array(luck) if luck else np.zeros((len(arrival), 1)),
        KINDS,
    )


def ran(
    workload: Workload,
    pools: list[SimulatedPool],
    strategy: str = "soonest",
    conditions: Conditions | None = None,
    seed: int = 0,
) -> Outcomes:
    ways = [Way(strategy)] * len(workload.kinds)
    served = {name for pool in pools for name in (pool.agent_type, *pool.helps)}
    both = [*pools, *(SimulatedPool(f"z-{t}", t, 1) for t in (CODE, SCAN) if t not in served)]
    rng = np.random.default_rng(seed)
    return simulate(workload, both, ways, conditions or Conditions(), rng=rng)


def busy(log: list[SimulatedRun], moment: float) -> Counter[int]:
    """The slots that each pool has in use just after a moment."""
    return Counter(run.pool for run in log if run.started <= moment < run.ended)


@pytest.mark.parametrize("binding", ["late", "push"])
def test_one_slot_serves_one_after_another(binding: str) -> None:
    # Arrivals each second, runs of 3 s: each waits 2 s longer than the one before it.
    workload = load([1.0, 2.0, 3.0, 4.0], [3.0] * 4)
    outcomes = ran(workload, [SimulatedPool("a", CODE, 1)], conditions=Conditions(binding))
    assert outcomes.wait.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert outcomes.answer.tolist() == [3.0, 5.0, 7.0, 9.0]


def test_a_run_takes_its_work_over_the_pools_speed() -> None:
    outcomes = ran(load([0.0], [6.0]), [SimulatedPool("a", CODE, 1, skill=Skill(speed=2.0))])
    assert outcomes.answer.tolist() == [3.0]


def test_a_handover_passes_before_every_run() -> None:
    pools = [SimulatedPool("a", CODE, 1)]
    outcomes = ran(load([0.0, 0.0], [2.0, 2.0]), pools, conditions=Conditions(handover=0.5))
    assert outcomes.wait.tolist() == [0.5, 3.0]


def test_a_failed_task_runs_again_until_it_is_good_or_out_of_luck() -> None:
    pools = [SimulatedPool("a", CODE, 1, skill=Skill(success=0.5))]
    luck = [[0.9, 0.6, 0.1], [0.8, 0.7, 0.5]]
    outcomes = ran(load([0.0, 100.0], [2.0, 2.0], luck=luck), pools)
    assert outcomes.runs.tolist() == [3, 3]
    assert outcomes.good.tolist() == [True, False]
    assert outcomes.answer.tolist() == [6.0, 6.0]
    assert outcomes.figures().again == 1.0
    assert outcomes.figures().good == 0.5


def test_a_pool_is_worse_from_its_moment_on() -> None:
    pool = SimulatedPool("a", CODE, 9, worse_from=10.0, worse=Skill(0.5, 0.0))
    outcomes = ran(load([0.0, 9.9, 10.0], [1.0, 1.0, 1.0]), [pool])
    assert outcomes.good.tolist() == [True, True, False]
    assert outcomes.answer.tolist() == pytest.approx([1.0, 1.0, 2.0])


def test_late_binding_fills_free_slots_elsewhere_where_push_waits() -> None:
    # Twice the success makes pool a the better one by far, whatever its load.
    pools = [SimulatedPool("a", CODE, 1), SimulatedPool("b", CODE, 1, skill=Skill(0.1))]
    workload = load([0.0, 20.0, 40.0, 41.0], [1.0, 1.0, 10.0, 1.0])
    old = 30.0
    late = ran(workload, pools, conditions=Conditions("late", old, producers=1))
    push = ran(workload, pools, conditions=Conditions("push", old, producers=1))
    assert late.wait.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert late.pool.tolist()[-1] == 1
    assert push.wait.tolist() == [0.0, 0.0, 0.0, 9.0]


def test_a_helper_takes_others_tasks_only_without_work_of_its_own() -> None:
    helper = SimulatedPool("helper", SCAN, 1, helps=frozenset({CODE}))
    own = SimulatedPool("own", CODE, 1)
    workload = Workload(
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.array([100.0, 10.0, 10.0, 10.0]),
        np.array([0, 1, 1, 0]),  # code, scan, scan (waits), code
        np.zeros((4, 1)),
        KINDS,
    )
    outcomes = ran(workload, [helper, own])
    # The waiting scan goes before the code that the helper would take as well.
    assert [run.task for run in sorted(outcomes.log, key=lambda run: run.started)] == [0, 1, 2, 3]
    assert outcomes.wait.tolist() == [0.0, 0.0, 9.0, 18.0]
    assert outcomes.pool.tolist() == [1, 0, 0, 0]


def test_round_robin_goes_in_turn_for_each_producer() -> None:
    pools = [SimulatedPool(name, CODE, 9) for name in "abc"]
    workload = load([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 6)
    outcomes = ran(workload, pools, "round_robin", Conditions(producers=2))
    assert outcomes.pool.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_stale_snapshot_shows_no_task_that_was_sent_since() -> None:
    pools = [SimulatedPool("a", CODE, 4), SimulatedPool("b", CODE, 4)]
    workload = load([0.0, 0.1, 0.2, 0.3], [9.0] * 4)
    stale = ran(workload, pools, "least_loaded", Conditions("push", 10.0, producers=1))
    fresh = ran(workload, pools, "least_loaded", Conditions("push", 0.0, producers=1))
    exact = ran(workload, pools, "least_loaded", Conditions("late", 10.0, producers=1))
    assert stale.pool.tolist() == [0, 0, 0, 0]
    assert fresh.pool.tolist() == exact.pool.tolist() == [0, 1, 0, 1]


pools_drawn = st.lists(
    st.builds(
        SimulatedPool,
        name=st.text("abcdef", min_size=1, max_size=3),
        agent_type=st.just(CODE),
        slots=st.integers(1, 3),
        weight=st.integers(1, 10),
        skill=st.builds(Skill, st.floats(0.2, 5.0), st.floats(0.0, 1.0)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda pool: pool.name,
)
strategies = st.sampled_from(sorted(STRATEGIES))
counts = st.builds(
    PoolCounts,
    st.integers(0, 1),
    st.integers(0, 4),
    st.integers(1, 4),
    st.none() | st.integers(0, 4),
)


@given(pools_drawn, strategies, st.lists(counts, min_size=4, max_size=4), st.integers(0, 99))
def test_a_pick_is_what_decide_decides(
    pools: list[SimulatedPool], strategy: str, exact: list[PoolCounts], seed: int
) -> None:
    table = SimulatedFleet(pools, half_life_seconds=600.0).table(0.0, gated=True)
    ranking = rank(strategy, KINDS[0].request, table, rng=np.random.default_rng(seed))
    loads = {pool.name: load for pool, load in zip(pools, exact, strict=False)}
    assert pick(ranking, loads) == decide(ranking, loads).pool


def drawn(seed: int, tasks: int = 40, max_runs: int = 3, rate: float = 1.0) -> Workload:
    rng = np.random.default_rng(seed)
    shares = [1.0, 0.0]
    figures = {"rate": rate, "mean_seconds": 3.0, "cv": 2.0}
    return synthetic(KINDS, shares, tasks=tasks, rng=rng, max_runs=max_runs, **figures)


@given(pools_drawn, strategies, st.sampled_from(["late", "push"]), st.integers(0, 99))
def test_every_task_ends_once_and_no_pool_runs_more_than_it_has_slots(
    pools: list[SimulatedPool], strategy: str, binding: str, seed: int
) -> None:
    outcomes = ran(drawn(seed), pools, strategy, Conditions(binding, age=2.0))
    assert sorted({run.task for run in outcomes.log}) == list(range(40))
    last = {run.task: run for run in outcomes.log}
    for task, run in last.items():
        assert run.good or outcomes.runs[task] == 3
    assert all(run.submitted <= run.started <= run.ended for run in outcomes.log)
    for run in outcomes.log:
        for pool, slots in busy(list(outcomes.log), run.started).items():
            assert slots <= ([*pools, SimulatedPool("z", SCAN, 1)][pool]).slots


@given(pools_drawn, strategies, st.integers(0, 99))
def test_no_task_waits_while_a_slot_of_a_fitting_pool_is_free(
    pools: list[SimulatedPool], strategy: str, seed: int
) -> None:
    outcomes = ran(drawn(seed), pools, strategy, Conditions(age=2.0))
    slots = sum(pool.slots for pool in pools)
    moments = sorted({m for run in outcomes.log for m in (run.submitted, run.started, run.ended)})
    for moment, after in pairwise(moments):
        between = (moment + after) / 2
        waiting = sum(run.submitted <= between < run.started for run in outcomes.log)
        running = sum(run.started <= between < run.ended for run in outcomes.log)
        assert not waiting or running == slots


@given(strategies, st.integers(0, 99), st.floats(0.0, 60.0))
def test_late_binding_over_pools_that_are_alike_waits_as_one_central_queue_does(
    strategy: str, seed: int, age: float
) -> None:
    workload = drawn(seed, 200, max_runs=1, rate=2.0)
    pools = [SimulatedPool(str(slots), CODE, slots) for slots in (1, 2, 3)]
    outcomes = ran(workload, pools, strategy, Conditions(age=age))
    assert outcomes.wait == pytest.approx(central_waits(workload.arrival, workload.work, 6))


def erlang_c(servers: int, offered: float) -> float:
    """The probability to wait in M/M/c: A. K. Erlang (1917), by the recursion of his B formula."""
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1.0 - offered / servers * (1.0 - blocked))


@pytest.mark.slow
def test_exponential_runs_wait_as_erlangs_formula_says() -> None:
    servers, rate, mean, tasks = 5, 0.3, 10.0, 60_000
    rng = np.random.default_rng(3)
    workload = Workload(
        np.cumsum(rng.exponential(1 / rate, tasks)),
        rng.exponential(mean, tasks),
        np.zeros(tasks, dtype=np.intp),
        np.zeros((tasks, 1)),
        KINDS,
    )
    pools = [SimulatedPool("a", CODE, 2), SimulatedPool("b", CODE, 3)]
    outcomes = ran(workload, pools, "least_loaded")
    waits = erlang_c(servers, rate * mean)
    assert (outcomes.wait > 0).mean() == pytest.approx(waits, rel=0.03)
    assert outcomes.wait.mean() == pytest.approx(waits * mean / (servers - rate * mean), rel=0.06)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_same_seed_brings_the_same_run(strategy: str) -> None:
    pools = [SimulatedPool("a", CODE, 2), SimulatedPool("b", CODE, 1, skill=Skill(2.0, 0.8))]
    first, second = (ran(drawn(5), pools, strategy, seed=7).log for _ in range(2))
    assert first == second


def test_lognormal_runs_have_the_mean_and_the_variation_asked_for() -> None:
    runs = lognormal(10.0, 2.0, 400_000, np.random.default_rng(1))
    assert runs.mean() == pytest.approx(10.0, rel=0.02)
    assert runs.std() / runs.mean() == pytest.approx(2.0, rel=0.1)
    assert lognormal(10.0, 0.0, 3, np.random.default_rng(1)) == pytest.approx([10.0] * 3)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tasks": 0}, "at least 1"),
        ({"rate": 0.0}, "more than 0"),
        ({"rate": float("nan")}, "more than 0"),
        ({"mean_seconds": -1.0}, "more than 0"),
        ({"cv": -0.1}, "0 or more"),
        ({"max_runs": 0}, "at least 1"),
        ({"shares": [0.0, 0.0]}, "at least one of them over 0"),
    ],
)
def test_a_load_that_cannot_be_is_refused(changed: dict[str, object], says: str) -> None:
    figures: dict[str, object] = {"tasks": 1, "rate": 1.0, "mean_seconds": 1.0, "cv": 1.0}
    given = {"shares": [1.0, 1.0], **figures, **changed}
    with pytest.raises(InvalidRequest, match=says):
        synthetic(KINDS, rng=np.random.default_rng(0), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        (Conditions("early"), "use one of: late, push"),
        (Conditions(producers=0), "at least 1"),
        (Conditions(age=-1.0), "0 or more"),
    ],
)
def test_conditions_that_cannot_be_are_refused(conditions: Conditions, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        ran(load([0.0], [1.0]), [SimulatedPool("a", CODE, 1)], conditions=conditions)


def test_a_kind_that_no_pool_serves_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no pool serves security_analysis"):
        simulate(
            load([0.0], [1.0], kind=1),
            [SimulatedPool("a", CODE, 1)],
            [Way("soonest")] * 2,
            rng=np.random.default_rng(0),
        )


def test_a_pool_that_fails_all_is_taken_out_and_tasks_stop_going_there() -> None:
    pools = [
        SimulatedPool("bad", CODE, 4, worse_from=50.0, worse=Skill(success=0.0)),
        SimulatedPool("good", CODE, 40),
    ]
    workload = drawn(1, 600, max_runs=1, rate=2.0)
    policy = HealthPolicy()
    watched = ran(workload, pools, "least_loaded", Conditions(health=policy))
    left = ran(workload, pools, "least_loaded", Conditions())
    late = workload.arrival > 120.0
    assert (left.pool[late] == 0).sum() > 10
    # Out for 30 s and more at a time, and tried with one task after that.
    assert (watched.pool[late] == 0).sum() <= 5
    assert len(watched.log) == 600


@given(pools_drawn, strategies, st.integers(0, 99))
def test_every_task_ends_whatever_pools_are_taken_out(
    pools: list[SimulatedPool], strategy: str, seed: int
) -> None:
    strict = HealthPolicy(failures_in_row=1, least_outcomes=2, slow_factor=1.5)
    outcomes = ran(drawn(seed), pools, strategy, Conditions(health=strict, look=2.0))
    assert sorted({run.task for run in outcomes.log}) == list(range(40))
