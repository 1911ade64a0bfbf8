"""The terms of the `ai_optimized` score, held to figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.routing.rules.scoring import (
    REFERENCE_WEIGHTS,
    complexity_band,
    complexity_fit,
    expected_wait,
    response_term,
)

EVERY_WEIGHT = np.arange(1.0, 11.0)


def test_the_reference_weights_sum_to_one() -> None:
    assert REFERENCE_WEIGHTS == (0.30, 0.25, 0.20, 0.15, 0.10)
    assert sum(REFERENCE_WEIGHTS) == pytest.approx(1.0)


def test_response_term_halves_at_one_second() -> None:
    # 1/(1+0) = 1; 1/(1+1) = 0.5; 1/(1+3) = 0.25
    assert response_term(np.array([0.0, 1.0, 3.0])).tolist() == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("complexity", "band"), [(0.0, 0), (0.3, 0), (0.31, 1), (0.7, 1), (0.71, 2), (1.0, 2)]
)
def test_bands_include_their_upper_edge(complexity: float, band: int) -> None:
    assert complexity_band(complexity) == band


def test_simple_tasks_suit_every_weight() -> None:
    assert complexity_fit(0, EVERY_WEIGHT).tolist() == [1.0] * 10


def test_middling_tasks_suit_the_middle_weight() -> None:
    # 1 - |w - 5| / 5: w = 1 gives 1 - 4/5, w = 5 gives 1, w = 10 gives 1 - 5/5
    expected = [0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
    assert complexity_fit(1, EVERY_WEIGHT) == pytest.approx(expected)


def test_complex_tasks_suit_the_heavy() -> None:
    # w / 10
    expected = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert complexity_fit(2, EVERY_WEIGHT) == pytest.approx(expected)


def test_expected_wait_counts_own_sends_since_the_snapshot() -> None:
    # speed = 1 / 2 s; (4 in flight + 3 sent + 1) / (10 slots x 0.5) = 8 / 5
    assert expected_wait(4, 3, 10, 2.0) == pytest.approx(1.6)
