"""What a call took, from the counts of its provider, also where these do not agree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.upper_bound import least_tokens
from fleet.models.rules.usage import (
    CONTRADICTORY,
    MAX_COUNT,
    MISSING,
    SEEN,
    Reading,
    larger_usage,
    read_usage,
    told_so_far,
)
from fleet.money import Tokens


def openai(prompt: Any, completion: Any, total: Any = None, **more: Any) -> dict[str, Any]:
    found = {"prompt_tokens": prompt, "completion_tokens": completion, **more}
    return found if total is None else {**found, "total_tokens": total}


def reasoning(tokens: int) -> dict[str, Any]:
    return {"completion_tokens_details": {"reasoning_tokens": tokens}}


def cached(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens_details": {"cached_tokens": tokens}}


@pytest.mark.parametrize(
    ("told", "used", "status"),
    [
        (openai(20, 30, 50), Tokens(20, 30), SEEN),
        (openai(20, 30), Tokens(20, 30), SEEN),
        # Written unseen
        (openai(20, 30, 1000), Tokens(20, 980, reasoning=950), SEEN),
        (openai(20, 30, 1000, **reasoning(0)), Tokens(20, 980, reasoning=950), SEEN),
        (openai(20, 0, 1000), Tokens(20, 980), SEEN),
        # Reasoning among the output, and beside it
        (openai(10, 500, 510, **reasoning(400)), Tokens(10, 500, reasoning=400), SEEN),
        (openai(10, 500, 910, **reasoning(400)), Tokens(10, 900, reasoning=400), SEEN),
        (openai(10, 500, **reasoning(400)), Tokens(10, 500, reasoning=400), SEEN),
        (openai(10, 5, **reasoning(400)), Tokens(10, 405, reasoning=400), SEEN),
        # Cached tokens among the input, and beside it
        (openai(100, 20, 120, **cached(40)), Tokens(100, 20, 40), SEEN),
        (openai(100, 20, 160, **cached(40)), Tokens(140, 20, 40), SEEN),
        (openai(30, 20, **cached(40)), Tokens(70, 20, 40), SEEN),
        (openai(100, 20, prompt_cache_hit_tokens=40), Tokens(100, 20, 40), SEEN),
        # Both beside: the larger output of two readings that make the total
        (
            openai(410, 500, 1310, **reasoning(400), **cached(400)),
            Tokens(410, 900, 400, reasoning=400),
            SEEN,
        ),
        # One of the two left out
        ({"prompt_tokens": 20, "total_tokens": 50}, Tokens(20, 30), SEEN),
        ({"completion_tokens": 30, "total_tokens": 50}, Tokens(20, 30), SEEN),
        (openai(20, 30, 0), Tokens(20, 30), SEEN),
        # No reading
        (openai(10, 500, 100), Tokens(10, 500), CONTRADICTORY),
        (openai(10, 500, 100, **reasoning(400)), Tokens(10, 900, reasoning=400), CONTRADICTORY),
        (openai(10, 500, 700, **reasoning(400)), Tokens(10, 900, reasoning=400), CONTRADICTORY),
        (openai(10, 500, 2000, **reasoning(400)), Tokens(10, 1990, reasoning=1490), CONTRADICTORY),
        # Other protocols
        (
            {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 20},
            Tokens(100, 20, 40),
            SEEN,
        ),
        (
            {
                "input_tokens": 30,
                "cache_read_input_tokens": 40,
                "cache_creation_input_tokens": 30,
                "output_tokens": 20,
                "output_tokens_details": {"thinking_tokens": 90},
            },
            Tokens(100, 110, 40, 30, 90),
            SEEN,
        ),
        (
            {"promptTokenCount": 10, "candidatesTokenCount": 5, "thoughtsTokenCount": 7},
            Tokens(10, 12, reasoning=7),
            SEEN,
        ),
        (
            {
                "prompt_token_count": 10,
                "tool_use_prompt_token_count": 4,
                "candidates_token_count": 5,
                "total_token_count": 119,
            },
            Tokens(14, 105, reasoning=100),
            SEEN,
        ),
        (
            {
                "inputTokens": 60,
                "cacheReadInputTokens": 40,
                "outputTokens": 20,
                "totalTokens": 120,
            },
            Tokens(100, 20, 40),
            SEEN,
        ),
        # Numbers as they come
        (openai(20.0, "30", 50.0), Tokens(20, 30), SEEN),
        (openai(20, 30.5), Tokens(20, 31), SEEN),
    ],
)
def test_the_largest_reading_that_the_parts_allow_is_taken(
    told: Any, used: Tokens, status: str
) -> None:
    assert read_usage(told) == Reading(used, status)


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "many", True, [5], MAX_COUNT + 1])
def test_a_count_that_is_none_was_not_told(bad: Any) -> None:
    assert read_usage(openai(20, bad), wrote=True).status == MISSING
    assert read_usage(openai(bad, 30)).status == MISSING
    assert read_usage(openai(20, bad, 50)) == Reading(Tokens(20, 30), CONTRADICTORY)
    assert read_usage(openai(20, 30, bad)) == Reading(Tokens(20, 30), CONTRADICTORY)
    used = read_usage(openai(20, 30, 50, completion_tokens_details={"reasoning_tokens": bad}))
    assert used == Reading(Tokens(20, 30), CONTRADICTORY)


@pytest.mark.parametrize("told", [None, {}, "5", [], 7, {"usage": 5}, openai(0, 0, 0)])
def test_usage_that_says_nothing_is_missing(told: Any) -> None:
    assert read_usage(told).status == MISSING


def test_an_answer_that_took_no_output_is_missing_its_usage() -> None:
    assert read_usage(openai(20, 0, 20)).status == SEEN
    assert read_usage(openai(20, 0, 20), wrote=True).status == MISSING
    assert read_usage(openai(20, 0), least_tokens("word " * 800)).status == MISSING


def test_an_answer_of_far_more_words_than_tokens_is_missing_its_usage() -> None:
    assert read_usage(openai(20, 199), 800).status == MISSING
    assert read_usage(openai(20, 200), 800).status == SEEN


def test_words_that_the_output_does_not_suffice_for_stand_beside_the_reasoning() -> None:
    assert read_usage(openai(10, 500, **reasoning(400)), 401).tokens.output == 900
    assert read_usage(openai(10, 500, **reasoning(400)), 400).tokens.output == 500


def test_of_an_answer_that_has_not_ended_the_parts_alone_count() -> None:
    assert told_so_far(openai(100, 10, 120)) == Tokens(100, 10)
    assert told_so_far(None) == Tokens(0, 0)


def test_of_several_reports_the_larger_of_each_count_is_kept() -> None:
    first = openai(20, 10, 30, **cached(5))
    told = larger_usage(first, openai(0, 30, 50, **reasoning(3)))
    assert read_usage(told) == Reading(Tokens(20, 30, 5, reasoning=3), SEEN)
    assert larger_usage(None, first) == first == larger_usage(first, None)
    assert read_usage(larger_usage(first, openai(-1, float("nan")))).tokens == Tokens(20, 10, 5)


counts = st.one_of(
    st.integers(-5, 10**12),
    st.floats(),
    st.text(max_size=3),
    st.none(),
    st.booleans(),
    st.decimals(allow_nan=True),
)
names = st.sampled_from(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"),
        *("thoughtsTokenCount", "totalTokenCount", "cached_tokens", "cache_read_input_tokens"),
    ]
)
details = st.dictionaries(st.sampled_from(["reasoning_tokens", "cached_tokens"]), counts)
usages = st.dictionaries(
    names | st.sampled_from(["completion_tokens_details", "prompt_tokens_details"]),
    counts | details,
)


@given(told=usages | counts | st.lists(counts), words=st.integers(0, 10**6))
def test_whatever_is_told_is_read_and_holds_together(told: Any, words: int) -> None:
    used, status = read_usage(told, words)
    assert status in (SEEN, MISSING, CONTRADICTORY)
    assert all(isinstance(each, int) and each >= 0 for each in used)
    assert used.cached_input + used.cache_write <= used.input
    assert used.reasoning <= used.output
    if status != MISSING:
        assert used.input
        assert used.output or not words


@given(told=usages, other=usages)
def test_reports_are_joined_whatever_they_say(told: Any, other: Any) -> None:
    joined = read_usage(larger_usage(told, other)).tokens
    assert all(each >= 0 for each in joined)


def test_no_word_is_more_than_its_tokens() -> None:
    assert least_tokens("") == 0
    assert least_tokens("one two\nthree") == 3
    assert least_tokens("x" * 16) == 1
    assert least_tokens("x" * 33) == 3
    assert least_tokens("\ud800 broken") == 2
    assert read_usage(openai(Decimal(20), 30)).tokens == Tokens(20, 30)
