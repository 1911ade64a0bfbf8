"""Percentiles, spread and bootstrap intervals, against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.ledger.rules.intervals import median_interval, median_ratio_interval, percentile, spread


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.0, 1.0), (0.5, 2.5), (0.95, 3.85), (1.0, 4.0)]
)
def test_a_percentile_is_linear_between_its_neighbours(fraction: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], fraction) == pytest.approx(expected)


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        percentile([], 0.5)


def test_the_spread_is_the_median_distance_from_the_median() -> None:
    # median 2, distances 1 1 0 0 2 4 7, their median 1
    assert spread([1, 1, 2, 2, 4, 6, 9]) == 1


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = median_interval([[3.0, 3.0], [3.0, 3.0]], confidence=0.95, rng=rng())
    assert (found.low, found.estimate, found.high) == (3.0, 3.0, 3.0)


def test_the_same_dice_give_the_same_interval() -> None:
    samples = rng(7).normal(10, 1, (6, 5))
    first = median_interval(samples, confidence=0.95, rng=rng())
    assert first == median_interval(samples, confidence=0.95, rng=rng())


def test_more_confidence_makes_a_wider_interval() -> None:
    samples = rng(7).normal(10, 1, (6, 5))
    half, most = (median_interval(samples, confidence=c, rng=rng()) for c in (0.5, 0.99))
    assert most.low < half.low <= half.estimate <= half.high < most.high


def test_the_interval_of_the_median_holds_the_true_median_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        dice = rng(seed)
        shared_by_a_round = dice.normal(0, 1, (12, 1))
        samples = 100 + shared_by_a_round + dice.normal(0, 0.5, (12, 5))
        found = median_interval(samples, confidence=0.9, rng=dice, resamples=300)
        held += found.low <= 100 <= found.high
    assert 0.84 <= held / 200 <= 0.98


def test_a_ratio_cancels_what_slowed_both_down_in_a_round() -> None:
    luck = np.array([[1.0], [2.0], [4.0], [8.0], [16.0]])
    reference = luck * np.ones((1, 3))
    found = median_ratio_interval(reference * 3, reference, confidence=0.95, rng=rng())
    assert (found.low, found.estimate, found.high) == pytest.approx((3.0, 3.0, 3.0))


def test_a_ratio_of_equals_holds_one() -> None:
    one, other = rng(3).normal(10, 1, (2, 8, 5))
    found = median_ratio_interval(one, other, confidence=0.95, rng=rng())
    assert found.low < 1 < found.high


def test_a_ratio_of_half_the_time_does_not_hold_one() -> None:
    one, other = rng(3).normal(10, 1, (2, 8, 5))
    found = median_ratio_interval(one / 2, other, confidence=0.95, rng=rng())
    assert found.high < 1
    assert found.estimate == pytest.approx(0.5, rel=0.1)


def test_variants_may_have_different_numbers_of_values_but_not_of_rounds() -> None:
    median_ratio_interval(np.ones((4, 5)), np.ones((4, 2)), confidence=0.9, rng=rng())
    with pytest.raises(ValueError, match="3 rounds cannot be paired with 4"):
        median_ratio_interval(np.ones((3, 5)), np.ones((4, 5)), confidence=0.9, rng=rng())


@pytest.mark.parametrize("samples", [[], [1.0, 2.0], [[], []]])
def test_samples_of_another_shape_are_refused(samples: list[object]) -> None:
    with pytest.raises(ValueError, match="shape"):
        median_interval(samples, confidence=0.9, rng=rng())
