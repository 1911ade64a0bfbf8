"""Whether a process that died is started again, and how a worker's grace is shared out."""

from __future__ import annotations

import pytest

from fleet.local.rules import RestartPolicy, wait_before_restart
from fleet.worker.rules.grace import Grace

POLICY = RestartPolicy(first_seconds=0.5, max_deaths=4, window_seconds=60)


def test_the_wait_doubles_with_each_death_until_there_are_too_many() -> None:
    deaths = [0.0, 1.0, 2.0, 3.0]
    waits = [wait_before_restart(deaths[: n + 1], deaths[n], POLICY) for n in range(4)]
    assert waits == [0.5, 1.0, 2.0, None]


def test_old_deaths_are_forgotten() -> None:
    assert wait_before_restart([0.0, 1.0, 2.0, 100.0], 100.0, POLICY) == 0.5


@pytest.mark.parametrize("seconds", [2.0, 8.0, 25.0, 3600.0])
def test_a_worker_drains_stops_and_ends_in_this_order_within_its_grace(seconds: float) -> None:
    grace = Grace(seconds)
    assert 0 < grace.drain_seconds < grace.end_seconds < grace.kill_seconds < seconds
    assert grace.drain_seconds >= seconds / 2
