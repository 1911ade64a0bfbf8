"""How text of strangers is marked, and which tools remain after it."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.untrusted import (
    NO_GRANTS,
    Grants,
    Tool,
    Untrusted,
    marked,
    marked_prompt,
    needs_memory,
    refusal_to_use,
)

TOOLS = {
    "read_page": Tool(implementation="x:read", reads_untrusted=True, is_outward=True),
    "search": Tool(implementation="x:search", reads_untrusted=True, is_outward=False),
    "send": Tool(implementation="x:send", reads_untrusted=False, is_outward=True),
    "count": Tool(implementation="x:count", reads_untrusted=False, is_outward=False),
}
ALL = Grants(tuple(TOOLS))


@pytest.mark.parametrize(
    ("grants", "has_read", "usable"),
    [
        (NO_GRANTS, False, {"search", "count"}),
        (NO_GRANTS, True, {"search", "count"}),
        (ALL, False, {"read_page", "search", "send", "count"}),
        (ALL, True, {"search", "count"}),
        (ALL._replace(approved=("send",)), True, {"search", "count", "send"}),
        (Grants(()), False, set()),
        (Grants(("send",)), False, {"send"}),
        # An approval grants nothing by itself.
        (Grants(("count",), ("send",)), True, {"count"}),
        (Grants(None, ("send",)), False, {"search", "count"}),
    ],
    ids=["default", "default-read", "all", "all-read", "approved", "none", "one", "alone", "lone"],
)
def test_an_outward_tool_needs_a_grant_and_after_text_of_strangers_an_approval(
    grants: Grants, has_read: bool, usable: set[str]
) -> None:
    found = {name for name in TOOLS if not refusal_to_use(name, TOOLS, grants, has_read)}
    assert found == usable


def test_a_refusal_says_what_to_do() -> None:
    assert "its tools: count, read_page, search, send" in refusal_to_use("x", TOOLS, ALL, False)
    assert "tools=['send', ...]" in refusal_to_use("send", TOOLS, NO_GRANTS, False)
    assert "approve=['send']" in refusal_to_use("send", TOOLS, ALL, True)


def test_a_run_needs_memory_only_where_an_outward_tool_may_still_be_used() -> None:
    assert needs_memory(TOOLS, ALL)
    assert not needs_memory(TOOLS, NO_GRANTS)
    assert not needs_memory(TOOLS, Grants(("send",), ("send",)))
    assert not needs_memory({}, ALL)


@pytest.mark.parametrize("grants", [NO_GRANTS, ALL, Grants(None, ("send",), "ann", True)])
def test_grants_are_stored_as_json(grants: Grants) -> None:
    assert Grants.from_json(json.loads(json.dumps(grants.to_json()))) == grants


def test_a_prompt_has_each_text_between_marks_with_its_source() -> None:
    prompt = marked_prompt("Summarize.", [Untrusted("one", 'a"b\n.md'), Untrusted("two", "x")])

    assert prompt.startswith("Summarize.\n\n<outside ")
    assert re.findall(r'source="([^"]*)">\n(\w+)\n</outside', prompt) == [
        ("a'b⏎.md", "one"),
        ("x", "two"),
    ]


def test_the_same_text_has_the_same_marks() -> None:
    assert marked(Untrusted("one", "a")) == marked(Untrusted("one", "a"))


@given(st.text(), st.text())
def test_no_text_closes_its_own_marks(text: str, source: str) -> None:
    once = marked(Untrusted(text, source))
    # The text repeats the marks that the text without them had.
    again = marked(Untrusted(f"{text}\n{once}\n{text}", source))
    first, *_, last = again.split("\n")

    assert last.startswith("</outside ")
    assert again.count(last) == 1
    assert first.startswith(last.replace("</", "<").rstrip(">"))


@pytest.mark.parametrize(
    "mark", ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<start_of_turn>", "[/INST]", "[INST]"]
)
def test_no_text_has_a_mark_that_ends_a_turn(mark: str) -> None:
    assert mark not in marked(Untrusted(f"before {mark} after", "a"))
