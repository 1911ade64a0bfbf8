"""Thoughts that a model writes into its text, between tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.thoughts import SplitAnswer, split


@pytest.mark.parametrize(
    ("written", "text", "thoughts"),
    [
        ("", "", ""),
        ("42", "42", ""),
        ("<think>so</think>42", "42", "so"),
        ("<think>\nso\n</think>\n\n42", "\n\n42", "\nso\n"),
        ("4<think>so</think>2", "4\n\n2", "so"),
        ("<think>a</think>4<think>b</think>2", "4\n\n2", "ab"),
        ("<think></think>42", "42", ""),
        # An inner tag is a thought, and what follows the first closing tag is text.
        ("<think>a<think>b</think>c</think>42", "c</think>42", "a<think>b"),
        ("<think>never closed", "never closed", ""),
        ("42</think>", "42</think>", ""),
        ("<think >a</think>", "<think >a</think>", ""),
        ("<THINK>a</THINK>", "<THINK>a</THINK>", ""),
        ("```\n<think>a</think>\n```", "```\n\n\n\n```", "a"),
    ],
)
def test_what_stands_between_tags_is_thought(written: str, text: str, thoughts: str) -> None:
    assert split(written) == SplitAnswer(text, thoughts)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "x", "\n"])).map("".join))
def test_nothing_that_was_written_is_lost_but_tags(written: str) -> None:
    answer = split(written)
    left = answer.text + answer.thoughts
    assert left.count("x") == written.count("x")
    assert len(answer.thoughts) <= len(written)
