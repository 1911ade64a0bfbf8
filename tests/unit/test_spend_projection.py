"""The projection of a month: by hand where it can be, by its hits where it is a guess."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.ledger.rules.back_test import AFTER_DAYS, back_test, scores
from fleet.ledger.rules.days import days_between, month_days, weekdays
from fleet.ledger.rules.projection import HISTORY_DAYS, Projection, project

DOLLAR = 10**9
OCTOBER_ON = days_between("20261001", "20261120")
YEARS = days_between("20250101", "20261231")


def projected(days: tuple[str, ...], amounts: list[int], open_day: bool = False) -> Projection:
    return project(days, amounts, np.random.default_rng(7), open_day)


def weekly(days: tuple[str, ...], workday: float, weekend: float) -> np.ndarray:
    return np.where(weekdays(days) < 5, workday, weekend)


def noisy(days: tuple[str, ...], expected: np.ndarray, share: float, seed: int) -> list[int]:
    noise = np.random.default_rng(seed).normal(1.0, share, len(days))
    return [int(amount) for amount in np.maximum(expected * noise, 0.0)]


def test_a_level_spend_goes_on_and_is_certain() -> None:
    found = projected(OCTOBER_ON, [5 * DOLLAR] * len(OCTOBER_ON))
    assert found.total is not None
    assert (found.month, found.spent, found.learned_from) == ("202611", 100 * DOLLAR, 51)
    assert found.days == days_between("20261121", "20261130")
    for bound in (found.total.low, found.total.estimate, found.total.high):
        assert bound == pytest.approx(150 * DOLLAR, rel=1e-6)
    assert found.note == ""


def test_weekends_that_cost_less_are_projected_to_cost_less() -> None:
    found = projected(OCTOBER_ON, noisy(OCTOBER_ON, weekly(OCTOBER_ON, 10e9, 2e9), 0.02, 1))
    daily = dict(zip(found.days, found.daily, strict=True))
    assert daily["20261121"].estimate < 4.5e9  # a Saturday
    assert daily["20261123"].estimate > 8.5e9
    assert found.total is not None
    truth = weekly(month_days("202611"), 10e9, 2e9).sum()
    assert found.total.low < truth < found.total.high


def test_a_rising_spend_is_projected_to_rise() -> None:
    rising = (1e9 + 1e8 * np.arange(len(OCTOBER_ON))).astype(int)
    found = projected(OCTOBER_ON, [int(amount) for amount in rising])
    assert found.total is not None
    estimates = [day.estimate for day in found.daily]
    assert estimates[-1] > estimates[0] > rising[-5]
    truth = found.spent + sum(1e9 + 1e8 * np.arange(51, 61))
    assert found.total.estimate == pytest.approx(truth, rel=0.01)


def test_few_days_are_said_to_be_few_and_get_a_wide_interval() -> None:
    days = days_between("20261101", "20261110")
    some = noisy(days, np.full(10, 10e9), 0.1, 3)
    few, more = projected(days[:4], some[:4]), projected(days, some)
    assert few.total is not None and more.total is not None
    assert few.note.startswith("learned from 4 days only")
    widths = [(each.high - each.low) / each.estimate for each in (few.total, more.total)]
    assert widths[0] > 2 * widths[1]


def test_days_before_the_first_spend_are_not_learned_from_and_two_are_too_few() -> None:
    days = days_between("20261101", "20261110")
    found = projected(days, [0] * 8 + [DOLLAR] * 2)
    assert (found.total, found.spent, found.daily) == (None, 2 * DOLLAR, ())
    assert found.note == "a projection needs 3 whole days with spend; there are 2"
    assert projected(days, [0] * 10).total is None
    assert projected(days, [0] * 7 + [DOLLAR] * 3).learned_from == 3
    assert projected(days, [0] * 5 + [DOLLAR, 0, 0, 0, 0]).learned_from == 5


def test_a_day_that_has_not_ended_costs_at_least_what_it_has() -> None:
    level = [DOLLAR] * (len(OCTOBER_ON) - 1)
    early = projected(OCTOBER_ON, [*level, DOLLAR // 10], open_day=True)
    late = projected(OCTOBER_ON, [*level, 50 * DOLLAR], open_day=True)
    assert early.total is not None and late.total is not None
    assert early.days[0] == "20261120" and len(early.days) == 11
    assert early.total.estimate == pytest.approx(30 * DOLLAR, rel=1e-6)
    assert late.total.estimate == pytest.approx(79 * DOLLAR, rel=1e-6)
    assert early.learned_from == 50


def test_a_month_that_has_ended_is_known() -> None:
    days = days_between("20261001", "20261031")
    found = projected(days, list(range(31)))
    assert found.total is not None
    assert (found.total.low, found.total.estimate, found.total.high) == (465, 465, 465)
    assert (found.days, found.note) == ((), "the month has ended")


def test_no_more_than_eight_weeks_are_learned_from() -> None:
    days = days_between("20260101", "20261115")
    old = [900 * DOLLAR] * (len(days) - HISTORY_DAYS)
    found = projected(days, [*old, *[DOLLAR] * HISTORY_DAYS])
    assert found.total is not None
    assert found.total.high == pytest.approx(30 * DOLLAR, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-(10**10), 10**15), min_size=3, max_size=40),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_the_projection_is_within_its_interval_and_no_less_than_what_is_spent(
    amounts: list[int], seed: int, open_day: bool
) -> None:
    days = days_between("20261001", "20261201")[: len(amounts)]
    found = project(days, amounts, np.random.default_rng(seed), open_day)
    if found.total is None:
        return
    for each in (found.total, *found.daily):
        assert each.low <= each.estimate <= each.high
    assert found.total.low >= found.spent - 1e-6 * abs(found.spent)


def test_over_years_of_noise_the_interval_holds_the_months_that_it_says() -> None:
    inside, errors, plain = [], [], []
    for seed in range(2):
        amounts = noisy(YEARS, weekly(YEARS, 10e9, 3e9), 0.25, seed)
        hits = back_test(YEARS, amounts, np.random.default_rng(seed))
        inside += [hit.within for hit in hits]
        found = scores(hits)
        errors.append([score.error for score in found])
        plain.append([score.run_rate_error for score in found])
    assert len(inside) == 2 * 24 * len(AFTER_DAYS)
    assert np.mean(inside) >= 0.9
    assert np.mean(errors) < 0.05
    # Five days are never a whole week: there the day of the week tells most.
    assert np.mean(errors, axis=0)[0] < 0.75 * np.mean(plain, axis=0)[0]


def test_a_back_test_knows_only_what_was_known_then() -> None:
    days = days_between("20260901", "20261031")
    calm = [DOLLAR] * 30 + [DOLLAR] * 31
    wild = [DOLLAR] * 30 + [DOLLAR] * 10 + [9 * DOLLAR] * 21
    calm_hits, wild_hits = (back_test(days, x, np.random.default_rng(1)) for x in (calm, wild))
    october = [
        next(hit for hit in hits if hit.month == "202610" and hit.after_days == 10)
        for hits in (calm_hits, wild_hits)
    ]
    assert october[0].projected.estimate == october[1].projected.estimate
    assert (october[0].actual, october[1].actual) == (31 * DOLLAR, 199 * DOLLAR)
    assert october[1].run_rate == 31 * DOLLAR
    assert not october[1].within


def test_scores_are_means_over_the_months() -> None:
    days = days_between("20260901", "20261031")
    amounts = [DOLLAR] * 30 + [2 * DOLLAR] * 31
    found = {score.after_days: score for score in scores(back_test(days, amounts, rng()))}
    assert {score.months for score in found.values()} == {2}
    assert found[25].run_rate_error == 0.0  # both months are level in themselves


def test_only_whole_months_since_the_first_spend_are_tested() -> None:
    days = days_between("20260915", "20261120")
    months = {hit.month for hit in back_test(days, [DOLLAR] * len(days), rng())}
    assert months == {"202610"}
    assert back_test(days, [0] * len(days), rng()) == ()
    late = [0] * 20 + [DOLLAR] * (len(days) - 20)  # from the 5th of October
    assert back_test(days, late, rng()) == ()
    assert scores(()) == ()


def rng() -> np.random.Generator:
    return np.random.default_rng(1)
