"""Which text of a payload counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.difficulty.payload_text import text_of
from fleet.models.rules.difficulty.text_features import READ_BYTES

DEEP = 100_000
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_all_strings_count_in_order_and_keys_and_numbers_do_not() -> None:
    payload = {"task": "sort a list", "limit": 3, "files": ["a.py", {"why": "slow"}], "last": "x"}
    assert text_of(payload) == "sort a list\na.py\nslow\nx"


def test_a_long_payload_is_cut_to_what_is_read() -> None:
    text = text_of({"first": "a" * 700, "second": "b" * 3000, "third": "c"})
    assert text == "a" * 700 + "\n" + "b" * (READ_BYTES - 701)


@given(st.dictionaries(st.text(), values))
def test_a_payload_and_its_json_have_the_same_text(payload: dict[str, object]) -> None:
    assert text_of(json.dumps(payload)) == text_of(payload)


@given(st.dictionaries(st.text(), values))
def test_the_text_is_never_longer_than_what_is_read(payload: dict[str, object]) -> None:
    assert len(text_of(payload)) <= READ_BYTES


def test_depth_does_not_matter() -> None:
    nested: list[object] = ["deep"]
    for _ in range(DEEP):
        nested = [nested]
    assert text_of({"nested": nested}) == "deep"


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        text_of("{")
