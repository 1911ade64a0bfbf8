"""What a model's answers show of the limit that they are asked to keep."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.cut_calls import Cut, cut_tokens
from fleet.models.rules.output_limits import (
    NO_RECORD,
    PROVEN_AFTER,
    LimitRecord,
    Shown,
    max_output,
    tells,
    unlimited_output,
)
from fleet.models.rules.upper_bound import WordCount, least_tokens
from fleet.money import Tokens


def test_a_limit_that_is_broken_bounds_nothing() -> None:
    broken = LimitRecord(0, 400)
    assert max_output(100, None) == max_output(100, NO_RECORD) == 100
    assert max_output(100, broken) == 600
    assert max_output(1000, broken) == 1000
    assert max_output(100, LimitRecord(PROVEN_AFTER)) == 100


def test_without_a_limit_the_window_is_the_bound() -> None:
    assert unlimited_output(100, 8192) == 8192
    assert unlimited_output(100, None) == 32_768
    assert unlimited_output(10_000, 8192) == 10_000


@pytest.mark.parametrize(
    ("shown", "breaks", "proves"),
    [
        (Shown(100, 101, True), True, False),
        (Shown(100, 100, False), False, True),
        (Shown(100, 60, True), False, True),
        (Shown(100, 60, False), False, False),
    ],
)
def test_an_answer_proves_its_limit_where_it_stops_there(
    shown: Shown, breaks: bool, proves: bool
) -> None:
    assert (shown.breaks, shown.proves) == (breaks, proves)


def test_only_what_is_news_is_told() -> None:
    within, over = Shown(100, 60, False), Shown(100, 400, False)
    assert not tells(None, within, trusted=True)
    assert tells(None, within, trusted=False)
    assert not tells(LimitRecord(PROVEN_AFTER), within, trusted=False)
    assert tells(LimitRecord(1, 400), within, trusted=True)
    assert all(tells(each, over, True) for each in (None, LimitRecord(PROVEN_AFTER), NO_RECORD))


def test_a_record_is_kept_as_it_is() -> None:
    assert LimitRecord.parse(LimitRecord(2, 400).packed) == LimitRecord(2, 400)


def test_an_answer_that_was_cut_at_its_limit_is_not_bounded_by_it() -> None:
    worst = Tokens(50, 100)
    cut = Cut(600, 0.0, Tokens(0, 0))
    assert cut_tokens(worst, cut).output == 100
    assert cut_tokens(worst, cut._replace(over=True)).output == 850


texts = st.text(st.sampled_from("ab \n\u00e9\u4e2d\ud800"), max_size=60) | st.text(max_size=60)


@given(text=texts, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_words_count_the_same_in_pieces(text: str, cuts: list[int]) -> None:
    """But for the last one, which may go on: it counts for less."""
    count, places = WordCount(), sorted({0, *cuts, len(text)})
    found = 0
    for begin, end in pairwise(places):
        found = count.add(text[begin:end])
    assert 0 <= least_tokens(text) - found <= 1
    assert count.add(" ") == least_tokens(text)
