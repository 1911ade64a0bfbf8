"""Half a surrogate pair is no character: it is joined to its other half, or replaced."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.answers.fields import Characters
from fleet.text import is_whole, made_whole, with_whole_texts

HALVES = st.sampled_from(["\ud83d", "\ude00", "a", "é", "\U0001f600", "\0", "\u2028"])
BROKEN = st.lists(HALVES, max_size=12).map("".join)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        ("a\0b", "a\0b"),
    ],
)
def test_halves_are_joined_and_what_is_alone_is_replaced(broken: str, whole: str) -> None:
    assert made_whole(broken) == whole


@given(BROKEN)
def test_whatever_is_made_whole_can_be_encoded_and_stays_as_it_is(text: str) -> None:
    whole = made_whole(text)
    assert is_whole(whole)
    assert made_whole(whole) == whole
    assert [c for c in whole if c in "aé\0\u2028"] == [c for c in text if c in "aé\0\u2028"]


@given(BROKEN, st.lists(st.integers(0, 12)))
def test_a_stream_cuts_characters_anywhere(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    characters = Characters()
    told = [characters.more(piece) for piece in pieces]
    assert all(map(is_whole, told))
    assert "".join(told) + characters.more("", last=True) == made_whole(text)


@given(st.recursive(BROKEN, lambda each: st.lists(each) | st.dictionaries(BROKEN, each)))
def test_all_texts_of_a_value_are_made_whole_as_its_json_is(value: object) -> None:
    whole = with_whole_texts(value)
    assert is_whole(json.dumps(whole, ensure_ascii=False))
    if isinstance(value, list):
        assert whole == json.loads(made_whole(json.dumps(value, ensure_ascii=False)))
