"""The triage is held to the findings: what it may say, and what takes its place."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agent import ModelReply
from fleet.errors import (
    FleetError,
    InvalidConfig,
    LeaseLost,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    OverBudget,
    Unavailable,
)
from workers.security_scanner.grounding import is_grounded, sentences
from workers.security_scanner.models import Finding, Grade, Triage
from workers.security_scanner.triage import (
    MAX_TOKENS,
    keep_grounded,
    quality_of,
    summary_by_rules,
    triage_of,
)


def finding(number: int, rule: str, cwe: int | None, file: str, line: int) -> Finding:
    return Finding(
        id=f"F{number}",
        tool="bandit",
        rule=rule,
        title="a hole",
        severity="high",
        confidence="high",
        cwe=cwe,
        file=file,
        line=line,
        snippet="",
        message="a hole.",
    )


SHELL = finding(1, "B602", 78, "shop/orders.py", 18)
PICKLE = finding(2, "B301", 502, "shop/accounts.py", 19)
FINDINGS = (SHELL, PICKLE)


@dataclass
class Answers:
    """A context whose model says what the test needs to hear, in order; errors are raised."""

    answers: list[str | Exception]
    output_tokens: int = 10
    prompts: list[str] = field(default_factory=list)
    task_id: str = "task-1"
    tenant: str = "acme"
    request_type: str = "security_analysis"
    complexity: float = 0.5
    read_roots: tuple[Path, ...] = ()
    sandbox: Literal["auto", "bubblewrap", "rlimits"] = "auto"

    async def ask(
        self,
        prompt: str,
        *,
        instructions: str = "",
        max_tokens: int = 1024,
        temperature: float = 0.0,
    ) -> ModelReply:
        self.prompts.append(prompt)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return ModelReply(
            text=answer,
            model="m",
            input_tokens=1,
            output_tokens=self.output_tokens,
            cost_nanodollars=0,
        )

    async def report(self, progress: str) -> None:
        raise AssertionError(f"the triage has nothing to report, but said {progress}")


@pytest.mark.parametrize(
    "sentence",
    [
        "Fix F1 first, because a customer's name reaches a shell.",
        "**F1** and F2 are both serious.",
        "B602 (CWE-78) in shop/orders.py line 18 lets anybody run commands.",
        "orders.py:18 is the worst, as CWE 78 is.",
        "Start with finding 1, then go on to finding #2.",
        "Findings 1 and 2 come first.",
        "Use yaml.safe_load and os.path as after F2.",
    ],
)
def test_a_sentence_that_names_only_what_was_found_is_grounded(sentence: str) -> None:
    assert is_grounded(sentence, FINDINGS)


@pytest.mark.parametrize(
    "sentence",
    [
        "Fix F3 first.",
        "Fix F1 and F12.",
        "Findings 1, 2 and 7 come first.",
        "F1 is an SQL injection (CWE-89).",
        "F1 is in shop/payments.py.",
        "F1 is in shop/accounts.py.",
        "F1 is on line 19.",
        "F1 is at shop/orders.py:20.",
        "F1 was reported by B301.",
        "F1 is CVE-2021-44228.",
        "F1 is explained at https://example.org/shell.",
        "F1 reads /etc/passwd.",
        "PrivateKeyDetector found F1.",
        "CWE-502 is in shop/orders.py.",
    ],
)
def test_a_sentence_that_names_what_was_not_found_is_not_grounded(sentence: str) -> None:
    assert not is_grounded(sentence, FINDINGS)


@pytest.mark.parametrize(
    "sentence",
    [
        "Security matters.",
        "There are 2 findings.",
        "Line 18 is bad.",
        "Use os.path instead.",
        "F1: F2: F1",
        "",
    ],
)
def test_a_sentence_that_names_no_finding_is_not_grounded(sentence: str) -> None:
    assert not is_grounded(sentence, FINDINGS)


def test_lists_and_paragraphs_are_read_as_sentences() -> None:
    text = "1. Fix F1.\n- F2: F2: Then this! Why?\n\n* F1 in shop/orders.py is worst"
    assert sentences(text) == ["Fix F1.", "F2: Then this!", "Why?", "F1 in shop/orders.py is worst"]


def test_ungrounded_and_repeated_sentences_are_dropped_and_counted() -> None:
    kept = keep_grounded("Fix F1 now. Fix F9 now. All is lost. Fix F1 now. Then go to F2", FINDINGS)
    assert kept.text == "Fix F1 now. Then go to F2."
    assert kept.dropped == 3


def test_the_last_sentence_of_a_cut_answer_is_dropped() -> None:
    kept = keep_grounded("Fix F1 now. Then F2 because it", FINDINGS, is_cut=True)
    assert (kept.text, kept.dropped) == ("Fix F1 now.", 1)


def test_a_grounded_answer_is_the_models_own() -> None:
    context = Answers(["Fix F1 now. Then fix F99."])
    triage = asyncio.run(triage_of(FINDINGS, context))
    assert (triage.text, triage.written_by, triage.reason, triage.dropped) == (
        "Fix F1 now.",
        "model",
        None,
        1,
    )
    assert len(context.prompts) == 1


def test_after_an_ungrounded_answer_the_model_is_asked_once_more() -> None:
    triage = asyncio.run(triage_of(FINDINGS, Answers(["No idea.", "F1 runs a shell."])))
    assert (triage.text, triage.written_by, triage.dropped) == ("F1 runs a shell.", "model", 1)


def test_two_ungrounded_answers_give_a_summary_that_says_it_was_made_by_rule() -> None:
    triage = asyncio.run(triage_of(FINDINGS, Answers(["No idea.", "F77 is bad. So is F78."])))
    assert triage.written_by == "rules"
    assert triage.reason == "the model's answers named no finding correctly"
    assert triage.text == summary_by_rules(FINDINGS)
    assert triage.dropped == 3


@pytest.mark.parametrize(
    "kind", [Unavailable, ModelRefused, NotAllowed, InvalidConfig, NeverRetry, OverBudget]
)
def test_a_model_that_is_away_or_refuses_costs_the_triage_but_not_the_scan(
    kind: type[FleetError],
) -> None:
    triage = asyncio.run(triage_of(FINDINGS, Answers([kind("no answer in 300 s")])))
    assert triage.written_by == "rules"
    assert triage.reason == "the model gave no answer: no answer in 300 s"


def test_a_lost_lease_stops_the_triage() -> None:
    with pytest.raises(LeaseLost):
        asyncio.run(triage_of(FINDINGS, Answers([LeaseLost("the task went elsewhere")])))


def test_an_answer_that_reached_the_token_limit_loses_its_last_sentence() -> None:
    context = Answers(["Fix F1 now. Then F2 becau"], output_tokens=MAX_TOKENS)
    assert asyncio.run(triage_of(FINDINGS, context)).text == "Fix F1 now."


def test_the_model_sees_one_finding_of_each_rule_and_no_source() -> None:
    twins = (
        SHELL,
        finding(2, "B602", 78, "shop/orders.py", 20),
        finding(3, "B301", 502, "a.py", 1),
    )
    context = Answers(["Fix F1 now."])
    asyncio.run(triage_of(twins, context))
    assert "F1:" in context.prompts[0]
    assert "F2:" not in context.prompts[0]
    assert "F3:" in context.prompts[0]


grades: st.SearchStrategy[Grade] = st.sampled_from(["low", "medium", "high"])
found = st.lists(
    st.builds(
        finding,
        number=st.just(0),
        rule=st.sampled_from(["B101", "B602", "AWSKeyDetector"]),
        cwe=st.sampled_from([None, 78, 798]),
        file=st.sampled_from(["a.py", "shop/b.py", ".env"]),
        line=st.integers(1, 999),
    ),
    min_size=1,
    max_size=12,
)


@given(found)
def test_the_summary_by_rules_is_grounded_itself(unnumbered: list[Finding]) -> None:
    numbered = [f.model_copy(update={"id": f"F{n}"}) for n, f in enumerate(unnumbered, start=1)]
    summary = summary_by_rules(numbered)
    assert keep_grounded(summary, numbered).dropped == 0


@given(found, st.text(max_size=200))
def test_no_text_of_a_model_breaks_the_check(findings: list[Finding], text: str) -> None:
    kept = keep_grounded(text, findings)
    assert 0 <= kept.dropped <= len(sentences(text))


@pytest.mark.parametrize(
    ("text", "written_by", "dropped", "quality"),
    [
        ("F1 is grave. Fix F2 too.", "model", 0, 1.0),
        ("F1 is grave.", "model", 3, 0.25),
        ("Fix F1 first.", "rules", 2, 0.0),
        ("Fix F1 first.", "rules", 0, 0.0),
    ],
)
def test_the_quality_of_a_triage_is_the_share_of_the_models_sentences_that_stayed(
    text: str, written_by: Literal["model", "rules"], dropped: int, quality: float
) -> None:
    assert quality_of(Triage(text=text, written_by=written_by, dropped=dropped)) == quality
