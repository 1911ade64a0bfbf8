"""How what is known of a pool is counted, blended and forgotten; figures by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.routing.rules.statistics import (
    NO_OUTCOMES,
    NO_WINDOW,
    UNTRIED,
    Estimate,
    OutcomeWindow,
    Statistic,
    blended,
    counted,
    expected,
)

HALF_LIFE = 600.0
statistics = st.integers(0, 100).flatmap(
    lambda outcomes: st.builds(
        Statistic,
        st.just(outcomes),
        st.integers(0, outcomes),
        st.floats(0, 1000),
        st.integers(0, 5),
        st.floats(0, 1e7),
        st.floats(0, 1000),
    )
)


def test_before_any_outcome_the_best_is_assumed() -> None:
    assert expected(NO_OUTCOMES, HALF_LIFE) == UNTRIED == Estimate(1.0, 0.0, 0.0, 1.0)


def test_a_fresh_statistic_says_what_it_counts() -> None:
    statistic = Statistic(10, 7, 3.0, typical_seconds=2.0)
    assert expected(statistic, HALF_LIFE) == pytest.approx((0.7, 3.0, 2.0, 1 - 3 / 20))


def test_an_old_failure_fades_by_half_in_a_half_life() -> None:
    # 1 - 0.4 / 2 = 0.8 after one, 1 - 0.4 / 4 = 0.9 after two; 8 s become 4 s and 2 s
    old, older = (Statistic(10, 6, 8.0, 1, age) for age in (600.0, 1200.0))
    assert expected(old, HALF_LIFE) == pytest.approx((0.8, 4.0, 4.0, 0.9))
    assert expected(older, HALF_LIFE) == pytest.approx((0.9, 2.0, 2.0, 0.95))


def test_a_request_type_counts_as_far_as_it_has_outcomes() -> None:
    wide = expected(Statistic(100, 90, 2.0), HALF_LIFE)
    # 10 of its own: half and half: (0.5 + 0.9) / 2, (4 + 2) / 2
    assert blended(Statistic(10, 5, 4.0), wide, HALF_LIFE)[:3] == pytest.approx((0.7, 3.0, 3.0))
    assert blended(NO_OUTCOMES, wide, HALF_LIFE) == pytest.approx(wide)


@given(statistics)
def test_with_a_single_request_type_the_blend_is_the_pools_own(statistic: Statistic) -> None:
    wide = expected(statistic, HALF_LIFE)
    assert blended(statistic, wide, HALF_LIFE) == pytest.approx(wide)


@given(statistics, st.floats(0, 1e6))
def test_with_time_all_goes_towards_what_is_assumed_of_the_untried(
    statistic: Statistic, later: float
) -> None:
    now = expected(statistic, HALF_LIFE)
    then = expected(statistic._replace(age_seconds=statistic.age_seconds + later), HALF_LIFE)
    assert now.success - 1e-12 <= then.success <= 1.0
    assert 0.0 <= then.response_seconds <= now.response_seconds + 1e-12


def test_the_typical_time_is_the_geometric_mean_until_the_newest_would_count_too_little() -> None:
    window = NO_WINDOW
    for seconds in (1.0, 4.0, 16.0):
        window = counted(window, True, seconds, 0.0, HALF_LIFE)
    # the third root of 64; the moving average: 1, 1.3, 2.77
    assert window.typical_seconds == pytest.approx(4.0)
    assert window.response_seconds == pytest.approx(2.77)
    steady = OutcomeWindow(0.0, 100, 0, 4.0, 0, 4.0)
    # 4 x (400 / 4) ^ 0.02
    late = counted(steady, True, 400.0, 0.0, HALF_LIFE).typical_seconds
    assert late == pytest.approx(4.0 * 100**0.02)


def test_one_long_run_moves_the_typical_time_far_less_than_the_moving_average() -> None:
    steady = OutcomeWindow(0.0, 100, 0, 10.0, 0, 10.0)
    window = counted(steady, True, 400.0, 0.0, HALF_LIFE)
    assert window.response_seconds == pytest.approx(49.0)
    assert window.typical_seconds < 11.0


def test_a_first_failure_makes_a_pool_no_hopeless_one() -> None:
    found = expected(Statistic(1, 0, 3.0), HALF_LIFE)
    # what was counted, and (0 + 10) / (1 + 10)
    assert (found.success, found.likely_success) == (0.0, pytest.approx(10 / 11))
