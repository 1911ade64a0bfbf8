"""A short text on what to fix first, written by the model and checked against the findings.

The model sees ids, and the names and severities of rules. It sees no text of the scanned code,
which may have been written to influence it: no line, no name of a file, and no message of a tool,
because some messages repeat the source. Its answer is split into sentences, and only sentences that
name findings and nothing else are kept. If none is left after a second attempt, or no model
answers, a summary made by rules replaces the text and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.agent import AgentContext
from fleet.errors import NeverRetry, NotAllowed, OverBudget, OverLimit, Unavailable
from workers.security_scanner.grounding import is_grounded, sentences
from workers.security_scanner.models import Finding, Triage

FINDINGS_SHOWN = 5
MAX_SENTENCES = 3
MAX_IDS = 4
MAX_TOKENS = 80
MAX_CHARACTERS = 4000
"""The most characters read of an answer, even if the model ignores its limit."""
NO_ANSWER = (Unavailable, OverBudget, OverLimit, NotAllowed, NeverRetry)
"""The errors of the model call that cost only the triage, not the scan's findings."""

INSTRUCTIONS = (
    "You are a security reviewer. Answer in one or two short sentences, and name findings by "
    "their ids, such as F1. Name nothing that is not listed."
)


async def triage_of(findings: Sequence[Finding], context: AgentContext) -> Triage:
    """Ask the model, at most twice, and keep the grounded sentences of its answer."""
    dropped = 0
    for prompt in (_prompt(findings), _second_prompt(findings)):
        try:
            reply = await context.ask(prompt, instructions=INSTRUCTIONS, max_tokens=MAX_TOKENS)
        except NO_ANSWER as error:
            return _by_rules(findings, f"the model gave no answer: {error}", dropped)
        is_cut = reply.output_tokens >= MAX_TOKENS
        is_cut = is_cut or len(reply.text) > MAX_CHARACTERS
        kept = keep_grounded(reply.text[:MAX_CHARACTERS], findings, is_cut=is_cut)
        dropped += kept.dropped
        if kept.text:
            return Triage(text=kept.text, written_by="model", dropped=dropped)
    return _by_rules(findings, "the model's answers named no finding correctly", dropped)


def quality_of(triage: Triage) -> float:
    """The kept share of the model's sentences, 0 to 1; 0 if the rules wrote the text."""
    kept = len(sentences(triage.text)) if triage.written_by == "model" else 0
    return kept / (kept + triage.dropped) if kept else 0.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept text of an answer, and the number of dropped sentences."""

    text: str
    dropped: int


def keep_grounded(text: str, findings: Sequence[Finding], *, is_cut: bool = False) -> Kept:
    """The first three grounded sentences, each once, without the last sentence of a cut text."""
    found = sentences(text)
    whole = found[:-1] if is_cut else found
    grounded = dict.fromkeys(s for s in whole if is_grounded(s, findings))
    kept = list(grounded)[:MAX_SENTENCES]
    return Kept(text=" ".join(map(_ended, kept)), dropped=len(found) - len(kept))


def _ended(sentence: str) -> str:
    """The sentence with a full stop, which a list item may lack."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence.rstrip(',;:')}."


def summary_by_rules(findings: Sequence[Finding]) -> str:
    """Two sentences from the findings alone: the most severe one, and the next ones."""
    first, *rest = findings
    weakness = f", CWE-{first.cwe}" if first.cwe else ""
    place = f"{first.file}:{first.line}"
    text = f"Fix {first.id} first: {first.title} ({first.rule}{weakness}) at {place}."
    after = [finding.id for finding in rest if finding.severity == first.severity]
    if after:
        text += f" Then go on with {_listed(after)}, of {first.severity} severity too."
    return text


def _by_rules(findings: Sequence[Finding], reason: str, dropped: int) -> Triage:
    text = summary_by_rules(findings)
    return Triage(text=text, written_by="rules", reason=reason, dropped=dropped)


def _listed(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:MAX_IDS])
    return f"{shown} and {len(ids) - MAX_IDS} more" if len(ids) > MAX_IDS else shown


def _prompt(findings: Sequence[Finding]) -> str:
    """The first finding of each rule: many of one kind would displace the others."""
    first_of_rule: dict[str, Finding] = {}
    for finding in findings:
        first_of_rule.setdefault(finding.rule, finding)
    shown = "\n".join(map(_compact, list(first_of_rule.values())[:FINDINGS_SHOWN]))
    return f"Findings:\n{shown}\n\nWhich two findings should be fixed first, and why?"


def _second_prompt(findings: Sequence[Finding]) -> str:
    """An easier question, because a model at temperature 0 repeats its answer to the same one."""
    first = findings[0]
    question = f"In one sentence that begins with {first.id}, say what it is and why to fix it."
    return f"Findings:\n{_compact(first)}\n\n{question}"


def _compact(finding: Finding) -> str:
    title = finding.title[:1].upper() + finding.title[1:]
    return f"{finding.id}: {title}, {finding.rule} ({finding.severity})"
