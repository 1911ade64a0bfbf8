"""Arrivals are counted between two decisions, and spread over the intervals between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.scaling.rules.arrivals import LONG_TERM, MAX_GAP_SECONDS, RECENT, added, new_arrivals


def counted(start: float, step: float, decisions: int, per_second: float) -> dict[str, int]:
    """What is counted after decisions at equal distances, of tasks at an even rate."""
    counts: dict[str, int] = {}
    for number in range(decisions):
        at, now = start + number * step, start + (number + 1) * step
        before, after = int(at * per_second), int(now * per_second)
        counts = added(counts, new_arrivals(after, before, at, now))
    return counts


@given(st.floats(1e9, 1e9 + 100), st.floats(1, 60), st.sampled_from([0.5, 2.0, 40.0]))
def test_the_rate_does_not_depend_on_how_often_is_decided(
    start: float, step: float, rate: float
) -> None:
    decisions = int(400 / step) + 1
    now = start + decisions * step
    recent = RECENT.arrivals(counted(start, step, decisions, rate), now)
    assert len(recent.counts) == RECENT.kept
    total = sum(recent.counts)
    # Of an interval at each end, and of the tasks between two decisions, only a part is known.
    assert abs(total - rate * 300) <= 5 * rate + step * rate / 2 + 2


@given(st.integers(0, 10_000), st.floats(0, 1e6), st.floats(0, MAX_GAP_SECONDS))
def test_every_task_is_counted_once(tasks: int, at: float, gap: float) -> None:
    found = new_arrivals(tasks + 7, 7, at, at + gap)
    for interval in (RECENT, LONG_TERM):
        assert sum(n for field, n in found.items() if field[0] == interval.letter) == tasks
    assert min(found.values()) >= 0


def test_what_came_in_a_long_pause_or_before_the_first_decision_is_not_counted() -> None:
    assert new_arrivals(9, 0, None, 1e9) == {}
    assert new_arrivals(9, 0, 1e9, 1e9 + MAX_GAP_SECONDS + 1) == {}


def test_an_interval_in_which_nothing_arrived_is_no_unknown_one() -> None:
    counts = added(new_arrivals(8, 0, 100.0, 105.0), new_arrivals(8, 8, 105.0, 110.0))
    assert RECENT.arrivals(counts, 110.0).counts == (8, 0)
    # Nobody decided in the third: what is not known repeats the one before.
    assert RECENT.arrivals({"r20": 8}, 110.0).counts == (8, 8)
