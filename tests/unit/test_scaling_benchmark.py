"""What the scaling simulation compares with: a made day, KEDA, and an oracle."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fleet.scaling.rules.simulation import Conditions, Trace, simulate

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from scaling_parts.recorded import STEP_SECONDS, within_steps  # noqa: E402
from scaling_parts.rivals import KEDA, POLL_SECONDS, oracle  # noqa: E402
from scaling_parts.synthetic import BUSY_SECONDS, DAYS_BEFORE, MEAN_SECONDS, RATE, day  # noqa: E402


def hour(seed: int) -> Trace:
    """The first busy hour of a made day."""
    found = day(seed)
    inside = found.arrival < 3600
    return replace(found, arrival=found.arrival[inside], service=found.service[inside])


def test_the_made_day_is_what_it_says_and_the_same_each_time() -> None:
    found = day(3)
    assert np.array_equal(found.arrival, day(3).arrival)
    assert not np.array_equal(found.arrival, day(4).arrival)
    assert found.arrival[-1] < BUSY_SECONDS
    assert found.service.mean() == pytest.approx(MEAN_SECONDS, rel=0.05)
    per_second = np.bincount(found.arrival.astype(int))
    minutes = per_second[: len(per_second) // 60 * 60].reshape(-1, 60).mean(axis=1)
    assert np.median(minutes) == pytest.approx(RATE, rel=0.5)
    assert minutes.max() > 3 * np.median(minutes)
    assert len(found.past.counts) == DAYS_BEFORE * 288


@pytest.mark.parametrize("start_seconds", [5.0, 30.0])
def test_nobody_waits_where_the_future_is_known(start_seconds: float) -> None:
    load = hour(1)
    # The first tasks come before any worker can be ready.
    later = load.arrival > 120
    conditions = Conditions(start_seconds=start_seconds)
    found = simulate(load, oracle(load, conditions), conditions)
    assert found.waits[later].max() == 0


def test_keda_keeps_its_size_for_the_stabilisation_and_then_lets_go() -> None:
    # Nine tasks at once: eight wait at the first look, at 30 s, and get a worker each.
    load = Trace(np.array([1.0] * 9 + [800.0]), np.array([35.0] * 9 + [1.0]))
    found = simulate(load, KEDA, Conditions(decide_seconds=POLL_SECONDS))
    sizes = {moment.at: moment.desired for moment in found.timeline}
    assert sizes[0.0] == 1
    assert {sizes[at] for at in (30.0, 180.0, 300.0)} == {8}
    assert sizes[330.0] == 1


def test_the_requests_of_a_client_stay_in_their_step() -> None:
    rng = np.random.default_rng(1)
    start, counts = np.array([0.0, 600.0, 600.0, 1800.0]), np.array([5, 0, 7, 1])
    shape, weibull = np.full(4, 0.2), np.array([True, False, False, True])
    found = within_steps(start, counts, shape, weibull, rng)
    assert np.bincount((found // STEP_SECONDS).astype(int)).tolist() == [5, 7, 0, 1]
