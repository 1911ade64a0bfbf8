"""Recorded tasks as a workload, and the pools as the record shows them."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.routing.rules.strategies import RouteRequest
from fleet.simulation.rules.events import Conditions, simulate
from fleet.simulation.rules.pools import SimulatedPool
from fleet.simulation.rules.producers import Way
from fleet.simulation.rules.replay import Experience, PastTask, kind_of, replayed
from fleet.simulation.rules.workload import Kind, Workload
from fleet.simulation.what_if import busiest

NAP = Kind(RouteRequest("nap", "napper", 0.5, {"napper": 1.0}))


def nap(submitted: float, run: float, pool: str, good: bool = True) -> PastTask:
    return PastTask(submitted, "nap", run, 0.0, good, pool)


def workload(tasks: list[PastTask]) -> Workload:
    kinds = {kind_of(task): NAP for task in tasks}
    return replayed(tasks, kinds, Experience.of(tasks), rng=np.random.default_rng(0))


def test_a_pool_with_few_runs_is_taken_to_be_like_the_others() -> None:
    tasks = [nap(0.0, 2.0, "quick")] * 30 + [nap(0.0, 10.0, "slow", good=False)] * 10
    experience = Experience.of(tasks)
    overall = (30 * 2.0 + 10 * 10.0) / 40
    assert experience.overall["nap"][:2] == (0.75, overall)
    # n of its own runs count against ten of all pools'.
    assert experience.expects("slow", "nap")[:2] == pytest.approx(
        (0.5 * 0.0 + 0.5 * 0.75, 0.5 * 10.0 + 0.5 * overall)
    )
    assert experience.expects("quick", "nap").response_seconds == pytest.approx(
        0.75 * 2.0 + 0.25 * overall
    )
    assert experience.expects("unknown", "nap") == experience.overall["nap"]


def test_in_its_own_pool_a_task_takes_as_long_and_ends_as_well_as_it_did() -> None:
    rng = np.random.default_rng(4)
    tasks = [
        nap(float(n), float(rng.exponential(3.0)), "ab"[n % 2], bool(rng.random() < 0.7))
        for n in range(60)
    ]
    experience = Experience.of(tasks)
    for name in "ab":
        own = [task for task in tasks if task.pool == name]
        kinds = {kind_of(task): NAP for task in own}
        load = replayed(own, kinds, experience, rng=np.random.default_rng(1))
        pools = [SimulatedPool(name, "napper", 99, by_request=experience.skills(name))]
        ways = [Way("soonest")]
        outcomes = simulate(load, pools, ways, Conditions(), rng=np.random.default_rng(0))
        assert outcomes.answer == pytest.approx([task.run_seconds for task in own])
        assert outcomes.good.tolist() == [task.good for task in own]


def test_in_another_pool_it_takes_longer_by_the_ratio_of_their_means() -> None:
    tasks = [nap(float(n), 2.0, "quick") for n in range(90)]
    tasks += [nap(float(n), 8.0, "slow") for n in range(90)]
    experience = Experience.of(tasks)
    load = workload(tasks[:1])
    skill = experience.skills("slow")["nap"]
    moved = replayed(tasks[:1], {kind_of(tasks[0]): NAP}, experience, rng=np.random.default_rng(0))
    ratio = (
        experience.expects("slow", "nap").response_seconds
        / experience.expects("quick", "nap").response_seconds
    )
    assert 3.0 < ratio < 4.0
    assert moved.work[0] / skill.speed == pytest.approx(2.0 * ratio)
    assert load.arrival.tolist() == [0.0]


def test_tasks_come_in_the_order_of_their_submission_from_the_first_on() -> None:
    load = workload([nap(107.0, 3.0, "a"), nap(100.0, 1.0, "a"), nap(103.5, 2.0, "a")])
    assert load.arrival.tolist() == [0.0, 3.5, 7.0]
    assert load.work.tolist() == pytest.approx([0.5, 1.0, 1.5])


def test_the_busiest_moment_of_each_pool_is_counted() -> None:
    tasks = [
        PastTask(0.0, "nap", 5.0, 1.0, pool="a"),  # 1 to 6
        PastTask(2.0, "nap", 1.0, 0.0, pool="a"),  # 2 to 3
        PastTask(3.0, "nap", 1.0, 0.0, pool="a"),  # 3 to 4: after the one before
        PastTask(0.0, "nap", 9.0, None, pool="b"),  # nobody knows when
    ]
    assert busiest(tasks) == {"a": 2}
