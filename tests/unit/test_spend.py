"""What the spend of a period says, each figure worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.ledger.rules.days import day_number, days_between, month_days, shifted, weekdays
from fleet.ledger.rules.spend import (
    DIMENSIONS,
    SpendLimits,
    Totals,
    analyse,
    breakdown,
    daily_totals,
    summed,
    weekly_trend,
)
from fleet.ledger.rules.spend_advice import Suggestion, suggestions, verdict
from fleet.ledger.rules.spend_rows import SpendRow

DOLLAR = 10**9
LIMITS = SpendLimits(500 * DOLLAR, 15000 * DOLLAR)
WEEK = days_between("20261118", "20261124")


def row(period: str, amount: int = 0, model: str = "gpt-5", **changed: object) -> SpendRow:
    plain = SpendRow(
        *(period, "acme", "code_generation", "code_generator", "codegen", model, "openai"),
        *(amount, 1, 100, 10, 50, 5, 0, 0, 0, 0),
    )
    return plain._replace(**changed)  # type: ignore[arg-type]


def of_type(found: Iterable[Suggestion], kind: str) -> list[tuple[str, int]]:
    return [(each.priority, each.saves) for each in found if each.type == kind]


def test_the_days_of_a_period_know_leap_years_and_weekdays() -> None:
    assert days_between("20240228", "20240301") == ("20240228", "20240229", "20240301")
    assert [len(month_days(month)) for month in ("202402", "202602", "202611", "202612")] == [
        *(29, 28, 30, 31)
    ]
    assert shifted("20261231", 1) == "20270101"
    assert list(weekdays(["19700101", "20261124", "20261129"])) == [3, 1, 6]  # Thu, Tue, Sun
    with pytest.raises(ValueError, match="Month"):
        day_number("20261301")


def test_a_period_is_summed_up_and_days_without_spend_count_as_zero() -> None:
    rows = [
        row("20261118", 6 * DOLLAR, uncertain=DOLLAR, uncertain_steps=1),
        row("2026112013", 1 * DOLLAR, model="gpt-4o", missing=2),  # a row of an hour
        row("2026112014", 3 * DOLLAR, tenant="other", unpriced=3),
    ]
    found = analyse(rows, WEEK, LIMITS)
    assert found.daily == (6 * DOLLAR, 0, 4 * DOLLAR, 0, 0, 0, 0)
    assert found.totals == Totals(10 * DOLLAR, 3, 300, 30, 150, 15, DOLLAR, 1, 2, 3)
    assert found.daily_mean == round(Fraction(10 * DOLLAR, 7)) == 1_428_571_429
    assert found.burn_rate == pytest.approx(10 / 15000)
    assert found.verdict == "healthy"
    assert found.daily_by_model == {
        "gpt-5": (6 * DOLLAR, 0, 3 * DOLLAR, 0, 0, 0, 0),
        "gpt-4o": (0, 0, DOLLAR, 0, 0, 0, 0),
    }
    shares = [(part.name, part.share) for part in found.breakdowns["tenant"]]
    assert shares == [("acme", pytest.approx(0.7)), ("other", pytest.approx(0.3))]


def test_a_row_of_a_day_outside_the_period_is_an_error() -> None:
    with pytest.raises(ValueError, match="20261117 is not of 20261118 to 20261124"):
        daily_totals([row("20261117", 1)], WEEK)


@pytest.mark.parametrize(
    ("daily", "slope"),
    [
        ([], 0),
        ([1, 2, 3, 4, 5, 6], 0),  # under seven days
        ([10, 20, 30, 40, 50, 60, 70], 10),
        ([900, 0, 70, 60, 50, 40, 30, 20, 10], -10),  # the last seven only
        ([7] * 7, 0),
        ([0, 0, 0, 0, 0, 0, 28], 3),  # 3 x 28 / 28
        ([1, 0, 0, 0, 0, 0, 2], Fraction(3, 28)),
    ],
)
def test_the_weekly_trend_is_the_slope_of_the_last_seven_days(
    daily: list[int], slope: Fraction
) -> None:
    assert weekly_trend(daily) == slope


def test_a_day_that_has_not_ended_is_in_the_total_and_not_in_the_trend() -> None:
    days = days_between("20261117", "20261124")
    rows = [row(day, 10 * number) for number, day in enumerate(days[:-1])] + [row(days[-1], 1)]
    assert analyse(rows, days, LIMITS, open_day=True).trend == 10
    week = [10, 20, 30, 40, 50, 60, 1]
    by_hand = sum(number * amount for number, amount in zip(range(-3, 4), week, strict=True)) / 28
    assert analyse(rows, days, LIMITS).trend == pytest.approx(by_hand)
    assert analyse(rows, days, LIMITS, open_day=True).totals.amount == 211


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        (0, "healthy"),
        (400 * DOLLAR, "healthy"),
        (400 * DOLLAR + 1, "warning"),
        (500 * DOLLAR, "warning"),
        (500 * DOLLAR + 1, "critical"),
    ],
)
def test_a_day_is_a_warning_over_80_percent_and_critical_over_the_limit(
    amount: int, says: str
) -> None:
    assert verdict(amount, LIMITS.daily) == says


def test_a_model_over_40_percent_suggests_a_cheaper_one_and_saves_30_percent_of_it() -> None:
    found = suggestions(100, {"a": 41, "b": 40, "c": 19}, Fraction(0), LIMITS.monthly)
    assert of_type(found, "model_substitution") == [("high", 12)]  # 12.3
    assert "cheaper model for a: it has 41% of the spend" in found[0].action


def test_a_rising_trend_suggests_watching_and_saves_four_times_the_trend() -> None:
    assert of_type(suggestions(1, {}, Fraction(5, 2), 100), "usage_monitoring") == [("medium", 10)]
    assert suggestions(1, {}, Fraction(0), 100) == ()
    assert suggestions(1, {}, Fraction(-1), 100) == ()


def test_over_80_percent_of_the_month_suggests_cutting_down_to_70() -> None:
    limit = 15000 * DOLLAR
    found = suggestions(12001 * DOLLAR, {}, Fraction(0), limit)
    assert of_type(found, "budget_alert") == [("critical", (12001 - 10500) * DOLLAR)]
    assert suggestions(12000 * DOLLAR, {}, Fraction(0), limit) == ()


@pytest.mark.parametrize(
    ("first", "last", "dollars"),
    [
        ("20261124", "20261124", 500),  # a day: the daily limit
        ("20261118", "20261124", 3500),  # 7/30 of a month
        ("20261101", "20261130", 15000),
        ("20260201", "20260228", 15000),  # a short month is a month
        ("20261101", "20261231", 30000),
        ("20260901", "20261130", 45000),
        ("20261017", "20261115", 7258.064516129 + 7500),  # 15/31 and 15/30
    ],
)
def test_the_limit_of_some_days_is_their_share_of_each_months_limit(
    first: str, last: str, dollars: float
) -> None:
    assert LIMITS.of_days(days_between(first, last)) == int(dollars * DOLLAR)


QUARTER = days_between("20260901", "20261130")


@pytest.mark.parametrize(
    ("days", "spent", "rate", "is_critical"),
    [
        (QUARTER, 14_000, 14 / 45, False),  # over 80 % of one month's limit, and of no quarter's
        (QUARTER, 36_000, 0.8, False),
        (QUARTER, 36_001, 36_001 / 45_000, True),
        (WEEK, 12_001, 12_001 / 15_000, True),  # a week may cost a month's limit, and no more
        (WEEK, 3_400, 3_400 / 15_000, False),
        (WEEK[:1], 400, 400 / 15_000, False),
    ],
)
def test_a_period_is_held_against_as_many_months_as_it_has(
    days: tuple[str, ...], spent: int, rate: float, is_critical: bool
) -> None:
    found = analyse([row(days[0], spent * DOLLAR)], days, LIMITS)
    assert found.burn_rate == pytest.approx(rate)
    alerts = [each for each in found.suggestions if each.type == "budget_alert"]
    assert bool(alerts) == is_critical


def test_advice_on_a_quarter_names_its_limit_and_saves_down_to_70_percent_of_it() -> None:
    found = analyse([row(QUARTER[0], 40_000 * DOLLAR)], QUARTER, LIMITS).suggestions[0]
    assert found.saves == (40_000 - 31_500) * DOLLAR
    said = "over 80 % of what the monthly limit allows in 91 days is spent"
    assert found.action == f"cut costs now: {said}"


def test_a_limit_of_next_to_nothing_is_no_division_by_zero() -> None:
    assert analyse([row(WEEK[0], 5)], WEEK, SpendLimits(1, 1)).days_limit == 1


def test_the_most_urgent_suggestion_comes_first() -> None:
    found = suggestions(100, {"a": 100}, Fraction(1), 100)
    assert [each.priority for each in found] == ["critical", "high", "medium"]


def test_nothing_spent_is_no_share_and_no_suggestion() -> None:
    found = analyse([row("20261118", 0)], WEEK, LIMITS)
    assert [part.share for part in found.breakdowns["model"]] == [0.0]
    assert (found.suggestions, found.daily_mean, found.trend) == ((), 0, 0.0)


def test_a_correction_may_bring_an_amount_under_zero() -> None:
    rows = [row("20261118", 10), row("20261119", -4, model="gpt-4o")]
    found = analyse(rows, WEEK, LIMITS)
    assert found.totals.amount == 6
    assert [part.totals.amount for part in found.breakdowns["model"]] == [10, -4]


names = st.sampled_from(["a", "b", "c"])
amounts = st.integers(-(10**12), 10**15)
counts = st.integers(0, 10**9)
rows_of_a_week = st.lists(
    st.builds(SpendRow, st.sampled_from(WEEK), *[names] * 6, amounts, *[counts] * 9), max_size=30
)


@given(rows_of_a_week)
def test_each_breakdown_sums_to_the_totals(rows: list[SpendRow]) -> None:
    found = analyse(rows, WEEK, LIMITS)
    assert sum(found.daily) == found.totals.amount
    columns = zip(*found.daily_by_model.values(), strict=True)
    assert tuple(sum(day) for day in columns) == (found.daily if rows else ())
    for by in DIMENSIONS:
        parts = breakdown(rows, by)
        for name in Totals.__slots__:
            assert sum(getattr(part.totals, name) for part in parts) == getattr(found.totals, name)


@given(rows_of_a_week, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: list[SpendRow], dice: object) -> None:
    mixed = rows.copy()
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    assert analyse(mixed, WEEK, LIMITS) == analyse(rows, WEEK, LIMITS)


@given(rows_of_a_week, names, st.sampled_from(WEEK))
def test_a_free_row_changes_no_amount(rows: list[SpendRow], model: str, day: str) -> None:
    before = analyse(rows, WEEK, LIMITS)
    after = analyse([*rows, row(day, 0, model=model)], WEEK, LIMITS)
    assert (after.daily, after.trend, after.burn_rate) == (
        *(before.daily, before.trend, before.burn_rate),
    )
    assert after.suggestions == before.suggestions
    assert summed([*rows, row(day)]).amount == before.totals.amount
    for by in DIMENSIONS:
        was = {part.name: part.totals.amount for part in before.breakdowns[by]}
        now = {part.name: part.totals.amount for part in after.breakdowns[by]}
        assert {name: now[name] for name in was} == was
        assert not any(amount for name, amount in now.items() if name not in was)
