"""How many tasks are fetched ahead of their slots."""

from __future__ import annotations

from fleet.broker.rules.prefetch import Pace


def pace(most: int, *ends: float) -> Pace:
    found = Pace(most)
    for end in ends:
        found.end(end)
    return found


def test_nothing_is_fetched_ahead_before_tasks_have_ended() -> None:
    assert pace(8).ahead(100.0) == 0


def test_as_many_are_fetched_ahead_as_end_in_a_quarter_of_the_time_looked_at() -> None:
    assert pace(8, *[10.0] * 20).ahead(10.05) == 5


def test_no_more_are_fetched_ahead_than_may_be() -> None:
    assert pace(3, *[10.0] * 100).ahead(10.05) == 3


def test_slow_tasks_are_not_fetched_ahead() -> None:
    # 32 slots and tasks of a second: three end in the time looked at.
    assert pace(8, 10.0, 10.03, 10.06).ahead(10.08) == 0


def test_old_ends_are_forgotten() -> None:
    found = pace(8, *[10.0] * 20)
    assert (found.ahead(10.05), found.ahead(10.2)) == (5, 0)
