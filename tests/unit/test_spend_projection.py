"""The projection of a month: by hand where it can be, by its hits where it is a guess."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.ledger.rules.days import days_between, month_days, weekdays
from fleet.ledger.rules.projection import RECENT_DAYS, project

DOLLAR = 10**9
OCTOBER_ON = days_between("20261001", "20261120")
YEARS = days_between("20200101", "20261231")
AFTER_DAYS = (5, 15, 25)


def test_a_level_spend_goes_on_and_is_certain() -> None:
    found = project(OCTOBER_ON, [5 * DOLLAR] * len(OCTOBER_ON))
    assert found.total is not None
    assert (found.month, found.spent, found.learned_from) == ("202611", 100 * DOLLAR, RECENT_DAYS)
    assert found.days == days_between("20261121", "20261130")
    assert (found.total.low, found.total.estimate, found.total.high) == (150e9, 150e9, 150e9)
    assert found.note == ""


def test_the_mean_of_recent_days_goes_on_with_students_interval() -> None:
    """Days of 2, 4 and 6 dollars: mean 4, deviation 2, t of 0.95 and two degrees 2.92."""
    days = days_between("20261127", "20261129")
    found = project(days, [2 * DOLLAR, 4 * DOLLAR, 6 * DOLLAR])
    assert found.total is not None
    margin = 2.92 * 2e9 * (1 + 1 / 3) ** 0.5
    assert found.total.estimate == 16e9
    assert found.total.high == pytest.approx(16e9 + margin, rel=0.01)
    assert found.total.low == 12e9  # what is spent, which is more than the estimate less margin
    assert found.daily[0].high == pytest.approx(4e9 + margin, rel=0.02)


def test_many_days_to_come_are_surer_than_each_of_them() -> None:
    """Days of 9 and 11 dollars in turn: deviation 1.038, t of 0.95 and 13 degrees 1.771."""
    days = days_between("20261013", "20261109")
    found = project(days, [9 * DOLLAR, 11 * DOLLAR] * 14)
    assert found.total is not None
    assert (found.spent, found.total.estimate) == (91 * DOLLAR, 301e9)
    margin = 1.771 * 1.0377e9 * (21 + 21**2 / 14) ** 0.5
    assert found.total.high == pytest.approx(301e9 + margin, rel=1e-3)
    assert found.total.low == pytest.approx(301e9 - margin, rel=1e-3)
    each = 10e9 + 1.771 * 1.0377e9 * (1 + 1 / 14) ** 0.5
    assert all(day.high == pytest.approx(each, rel=1e-3) for day in found.daily)


def test_few_days_are_said_to_be_few_and_get_a_wide_interval() -> None:
    days = days_between("20261101", "20261110")
    some = noisy(days, np.full(10, 10e9), 0.1, 3)
    few, more = project(days[:4], some[:4]), project(days, some)
    assert few.total is not None and more.total is not None
    assert few.note == "learned from 4 days only"
    widths = [(each.high - each.low) / each.estimate for each in (few.total, more.total)]
    assert widths[0] > 2 * widths[1]


def test_days_before_the_first_spend_are_not_learned_from_and_two_are_too_few() -> None:
    days = days_between("20261101", "20261110")
    found = project(days, [0] * 8 + [DOLLAR] * 2)
    assert (found.total, found.spent, found.daily) == (None, 2 * DOLLAR, ())
    assert found.note == "a projection needs 3 whole days with spend; there are 2"
    assert project(days, [0] * 10).total is None
    assert project(days, [0] * 7 + [DOLLAR] * 3).learned_from == 3
    assert project(days, [0] * 5 + [DOLLAR, 0, 0, 0, 0]).learned_from == 5


def test_a_day_that_has_not_ended_costs_at_least_what_it_has() -> None:
    level = [DOLLAR] * (len(OCTOBER_ON) - 1)
    early = project(OCTOBER_ON, [*level, DOLLAR // 10], open_day=True)
    late = project(OCTOBER_ON, [*level, 50 * DOLLAR], open_day=True)
    assert early.total is not None and late.total is not None
    assert early.days[0] == "20261120" and len(early.days) == 11
    assert (early.total.estimate, late.total.estimate) == (30e9, 79e9)
    assert (early.daily[0].estimate, late.daily[0].estimate) == (1e9, 50e9)


def test_a_month_that_has_ended_is_known() -> None:
    days = days_between("20261001", "20261031")
    found = project(days, list(range(31)))
    assert found.total is not None
    assert (found.total.low, found.total.estimate, found.total.high) == (465, 465, 465)
    assert (found.days, found.note) == ((), "the month has ended")


def test_no_more_than_two_weeks_are_learned_from() -> None:
    days = days_between("20260101", "20261130")[:-1]
    old = [900 * DOLLAR] * (len(days) - RECENT_DAYS)
    found = project(days, [*old, *[DOLLAR] * RECENT_DAYS])
    assert found.total is not None
    assert found.daily[0].high == 1e9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(10**10), 10**15), min_size=3, max_size=40), st.booleans())
def test_the_projection_is_within_its_interval_and_no_less_than_what_is_spent(
    amounts: list[int], open_day: bool
) -> None:
    days = days_between("20261001", "20261201")[: len(amounts)]
    found = project(days, amounts, open_day)
    if found.total is None:
        return
    for each in (found.total, *found.daily):
        assert each.low <= each.estimate <= each.high
    assert found.total.low >= found.spent - 1e-6 * abs(found.spent)


@pytest.mark.parametrize(
    ("expected", "least", "most"),
    [
        (lambda days: np.full(len(days), 10e9), 0.85, 0.95),
        (lambda days: 10e9 + 1e8 * np.arange(len(days)), 0.85, 0.95),
        # The weekends make the spread of the days wide, and the interval with it.
        (lambda days: np.where(weekdays(days) < 5, 10e9, 3e9), 0.95, 1.0),
    ],
    ids=["level", "rising", "quiet weekends"],
)
def test_over_years_of_noise_the_interval_holds_the_months_that_it_says(
    expected: Callable[[tuple[str, ...]], np.ndarray], least: float, most: float
) -> None:
    inside = []
    for seed in range(4):
        amounts = noisy(YEARS, expected(YEARS), 0.25, seed)
        for month in dict.fromkeys(day[:6] for day in YEARS[31:]):
            start, length = YEARS.index(f"{month}01"), len(month_days(month))
            actual = sum(amounts[start : start + length])
            for known in (start + after for after in AFTER_DAYS):
                total = project(YEARS[:known], amounts[:known]).total
                assert total is not None
                inside.append(total.low <= actual <= total.high)
    assert len(inside) == 4 * 83 * len(AFTER_DAYS)
    assert least <= np.mean(inside) <= most


def noisy(days: tuple[str, ...], expected: np.ndarray, share: float, seed: int) -> list[int]:
    noise = np.random.default_rng(seed).normal(1.0, share, len(days))
    return [int(amount) for amount in np.maximum(expected * noise, 0.0)]
