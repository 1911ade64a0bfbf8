"""The simulated pool: its waits, what it pays, and what a plan says of a recorded load."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.errors import InvalidRequest
from fleet.scaling.plan import read_trace
from fleet.scaling.rules.policies import POLICIES, SQUARE_ROOT
from fleet.scaling.rules.simulation import Conditions, Trace, simulate
from fleet.scaling.rules.values import PoolLoad, ScalingPolicy, Wanted
from fleet.simulation.rules.central import central_waits


def trace(arrival: list[float], service: list[float]) -> Trace:
    return Trace(np.array(arrival), np.array(service))


def random_trace(tasks: int, rate: float, mean: float) -> Trace:
    rng = np.random.default_rng(7)
    return Trace(np.cumsum(rng.exponential(1 / rate, tasks)), rng.exponential(mean, tasks))


def sizes(*wanted: int) -> ScalingPolicy:
    """A policy that wants these numbers of workers, one after another, then the last."""

    def decide(load: PoolLoad) -> Wanted:
        return Wanted(wanted[min(round(load.now / 5), len(wanted) - 1)], ("",))

    return ScalingPolicy("script", "", decide, lambda load: 0.0)


@pytest.mark.parametrize(("workers", "slots"), [(12, 1), (3, 4)])
def test_a_pool_that_keeps_its_size_is_one_queue_before_its_slots(workers: int, slots: int) -> None:
    load = random_trace(2000, 1.0, 10.0)
    found = simulate(load, sizes(workers), Conditions(slots=slots, min=workers))
    assert found.waits == pytest.approx(central_waits(load.arrival, load.service, 12))
    assert found.busy == pytest.approx(load.service.sum())


def test_a_worker_is_paid_from_its_start_to_its_end() -> None:
    # One for 25 s, and a second from its start at 0 until it is drained at 15.
    found = simulate(trace([0.0], [22.0]), sizes(2, 2, 2, 1), Conditions())
    assert found.paid == 25.0 + 15.0
    assert found.most_workers == 2


def test_the_first_task_of_a_pool_at_zero_waits_for_the_decision_and_the_start() -> None:
    found = simulate(trace([1.0, 2.0], [3.0, 3.0]), SQUARE_ROOT, Conditions(min=0, start_seconds=7))
    # Decided at 5, ready at 12: a worker for each of the two that wait.
    assert found.waits.tolist() == [11.0, 10.0]


def test_a_drained_worker_finishes_its_task_and_takes_no_new_one() -> None:
    # The older worker is drained at 5 and ends at 8. The other one is free at 30.
    load = trace([0.0, 0.0, 6.0, 6.0], [8.0, 30.0, 1.0, 1.0])
    found = simulate(load, sizes(2, 1), Conditions(min=1, start_seconds=0.0))
    assert found.waits.tolist() == [0.0, 0.0, 24.0, 25.0]
    assert found.paid == 35.0 + 8.0


def test_a_draining_worker_is_taken_back_before_another_starts() -> None:
    # The older worker is drained at 5, is taken back at 10, and is free at 12.
    load = trace([0.0, 0.0, 6.0], [12.0, 30.0, 1.0])
    found = simulate(load, sizes(2, 1, 2), Conditions(min=2, start_seconds=60.0))
    assert found.waits.tolist() == [0.0, 0.0, 6.0]


def test_a_worker_that_is_not_ready_is_the_first_to_end() -> None:
    found = simulate(trace([0.0], [20.0]), sizes(3, 1), Conditions(start_seconds=60.0))
    assert found.paid == 20.0 + 5.0 + 5.0


tasks = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 60)), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(
    tasks, st.sampled_from(list(POLICIES)), st.integers(0, 2), st.integers(1, 3), st.floats(0, 60)
)
def test_every_task_runs_once_and_is_paid_for(
    found: list[tuple[float, float]], policy: str, least: int, slots: int, start: float
) -> None:
    load = Trace(*np.array(sorted(found)).T)
    conditions = Conditions(slots=slots, min=least, max=5, start_seconds=start)
    outcome = simulate(load, POLICIES[policy], conditions)
    assert len(outcome.waits) == len(found)
    assert (outcome.waits >= 0).all()
    assert outcome.paid >= outcome.busy - 1e-6
    assert outcome.most_workers <= 5 + 5  # those that drain are over max for a while


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_trace_has_seconds_or_dates(tmp_path: Path) -> None:
    seconds = write(tmp_path / "a.csv", "submitted,run_seconds,pool\n30,2,x\n10.5,1.5,y\n")
    found = read_trace(seconds, 10.0)
    assert (found.arrival.tolist(), found.service.tolist()) == ([0.0, 19.5], [1.5, 2.0])
    dates = "TIMESTAMP,Tokens\n2023-11-16 18:17:03.9799600,1\n2023-11-16 18:18:03.9799600,2\n"
    found = read_trace(write(tmp_path / "b.csv", dates), 10.0)
    assert (found.arrival.tolist(), found.service.tolist()) == ([0.0, 60.0], [10.0, 10.0])


def test_a_trace_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"arrival\n1\n2\n"))
    assert read_trace(path, 4.0).service.tolist() == [4.0, 4.0]


def test_a_trace_has_the_tasks_of_the_pool_that_ran(tmp_path: Path) -> None:
    lines = "pool,submitted,run_seconds\nx,10,2\ny,11,3\nx,12,\nx,13,4\n"
    path = write(tmp_path / "a.csv", lines)
    assert read_trace(path, 10.0, "x").service.tolist() == [2.0, 4.0]
    assert read_trace(path, 10.0).service.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("when\n1\n", "line 1: has no column submitted or arrival or timestamp"),
        ("submitted,run_seconds\n1,2\nx,2\n", "line 3: column submitted: 'x' is no time"),
        ("submitted,run_seconds\n1,-2\n", "column run_seconds: -2 is negative"),
        ("submitted\nnan\n", "'nan' is no time"),
        ("submitted,run_seconds\n1\n", "column run_seconds: None is no time"),
        ("submitted\n0\n1e9\n", "its tasks span 11574 days; give at most 60"),
        ("submitted\n", "has no tasks that ran"),
        ("submitted,run_seconds\n1,\n", "has no tasks that ran"),
    ],
)
def test_a_faulty_trace_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        read_trace(write(tmp_path / "a.csv", text), 10.0)


def run_plan(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["scale", "plan", *arguments])


def test_a_plan_compares_the_policies(tmp_path: Path) -> None:
    lines = "".join(f"{second},4\n" for second in range(300))
    path = write(tmp_path / "a.csv", "submitted,run_seconds\n" + lines)
    picture = tmp_path / "plan.png"
    shown = run_plan("--trace", str(path), "--usd-per-hour", "2", "--plot", str(picture), "--json")
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.output)
    assert plan["tasks"] == 300
    assert [row["policy"] for row in plan["policies"]] == list(POLICIES)
    for row in plan["policies"]:
        assert row["usd"] == pytest.approx(2 * row["paid_hours"])
        assert row["paid_to_busy"] >= 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plan_takes_the_pool_of_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "submitted,run_seconds\n0,4\n")
    options = ("--pool", "codegen", "--policy", "threshold", "--max", "3")
    shown = run_plan("--trace", str(path), *options)
    assert "workers of 10 slots, 1 to 3" in shown.output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--policy", "square"), "square_root"),
        (("--min", "9", "--max", "3"), "--min 9 is over --max 3"),
        (("--pool", "nowhere"), "nowhere"),
    ],
)
def test_a_plan_of_nothing_known_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    path = write(tmp_path / "a.csv", "submitted\n0\n")
    refused = run_plan("--trace", str(path), *arguments)
    assert isinstance(refused.exception, InvalidRequest)
    assert sentence in str(refused.exception)
