"""Which thresholds of a budget are reached."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.budgets.rules.alerts import THRESHOLDS, BudgetAlert, BudgetUse
from fleet.budgets.rules.limits import MOST, Limit

amounts = st.integers(0, MOST)


def use(most: int, settled: int, held: int = 0) -> BudgetUse:
    return BudgetUse("tenant:acme", Limit("day", "dollars", most), "d20261124", settled, held)


@pytest.mark.parametrize(
    ("settled", "held", "reached"),
    [
        (0, 0, ()),
        (499, 0, ()),
        (250, 250, (50,)),
        (799, 0, (50,)),
        (0, 800, (50, 80)),
        (900, 0, (50, 80, 90)),
        (999, 0, (50, 80, 90)),
        (600, 400, (50, 80, 90, 100)),
        (5000, 0, (50, 80, 90, 100)),
    ],
)
def test_what_is_settled_and_what_is_held_count_together(
    settled: int, held: int, reached: tuple[int, ...]
) -> None:
    assert use(1000, settled, held).reached == reached


@given(st.integers(1, MOST), amounts, amounts, amounts)
def test_more_use_never_reaches_less(most: int, settled: int, held: int, more: int) -> None:
    before, after = use(most, settled, held).reached, use(most, settled + more, held).reached
    assert after[: len(before)] == before == THRESHOLDS[: len(before)]


@given(st.integers(1, MOST), amounts)
def test_a_budget_is_full_exactly_where_no_nanodollar_is_left(most: int, settled: int) -> None:
    assert (100 in use(most, settled).reached) == (settled >= most)


def test_an_alert_says_how_much_of_what_is_used() -> None:
    alert = BudgetAlert(
        "1795560000000-0", "tenant:acme", "day", "d20261124", 80, 20_000_000_000,
        12_500_000_000, 4_100_000_000,
    )
    assert alert.sentence == (
        "tenant:acme has used 83 % of $20 per UTC day: $12.5 settled, $4.1 reserved"
    )
    assert (alert.epoch, alert.is_full) == (1_795_560_000, False)
