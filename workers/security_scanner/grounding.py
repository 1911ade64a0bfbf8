"""Checks whether a sentence mentions only existing findings.

A sentence may mention finding ids, files, rules, CWE numbers and lines. Each mention must belong to
a finding, and all together must match the same findings: `F1 in shop.py` is refused if F1 is in
another file. Links and CVE numbers are always refused, because no finding has any. A sentence
without a mention is refused too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workers.security_scanner.models import Finding

_NUMBERS = r"(#?\d+(?:(?:,\s*(?:and|or)\s+|\s*(?:,|&|-|and|or|to)\s*)#?\d+)*)"
_NOUN = r"(?:finding|issue|item|hole|problem|id)s?|vulnerabilit(?:y|ies)"
_LISTED = re.compile(rf"\b(?:{_NOUN})\s+(?:no\.?\s*|number\s+)?{_NUMBERS}", re.IGNORECASE)
_ID = re.compile(r"\bF[-#]?(\d+)\b", re.IGNORECASE)
_RULE = re.compile(r"\b(B\d{3}|\w+Detector|\w+HighEntropyString)\b", re.IGNORECASE)
_CWE = re.compile(r"\bCWE[\s#:-]*(\d+)", re.IGNORECASE)
# Only file endings: `yaml.load` and `os.path` are no files.
_ENDING = (
    "pyw?|pyi|ini|cfg|conf|toml|json|ya?ml|env|txt|md|rst|sh|sql|xml|html?|jsx?|tsx?|css|java|"
    "go|rb|php|rs|cs?|cpp|h|pem|key|crt|lock|log|csv|db|sqlite|dockerfile|tf|properties"
)
_FILE = re.compile(rf"(?<![\w.])((?:[\w.\-]*/)*[\w.\-]*\.(?:{_ENDING}))\b", re.IGNORECASE)
_ABSOLUTE = re.compile(r"(?<![\w.:/])(/[\w.\-]+(?:/[\w.\-]+)+)")
_LINE = re.compile(rf"\blines?\s+{_NUMBERS}", re.IGNORECASE)
_LINE_OF_FILE = re.compile(rf"\.(?:{_ENDING}):(\d+)|\bL(\d+)\b", re.IGNORECASE)
_FOREIGN = re.compile(r"\b(?:CVE-\d+|https?://|www\.)", re.IGNORECASE)
# Small models often repeat a label: `F1: F1: ...`.
_REPEATED_LABEL = re.compile(r"^(\w+:\s+)\1+")
_WORD = re.compile(r"\b[^\W\d_]{2,}\b")
FEWEST_WORDS = 2
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LIST_MARK = re.compile(r"^\s*(?:[-*•>#]+|\d+[.)])\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, and the items of its lists, without their marks."""
    unmarked = [_LIST_MARK.sub("", line).strip() for line in text.splitlines()]
    lines = [_REPEATED_LABEL.sub(r"\1", line) for line in unmarked]
    return [sentence for line in lines for sentence in _SENTENCE_END.split(line) if sentence]


def is_grounded(sentence: str, findings: Sequence[Finding]) -> bool:
    """Whether the sentence names at least one finding, and mentions only facts of findings.

    A list of ids alone is refused too: a sentence needs two words.
    """
    if len(_WORD.findall(sentence)) < FEWEST_WORDS:
        return False
    candidates = list(findings)
    names_one = False
    for kind in _KINDS:
        values = kind.mentions(sentence)
        for value in values:
            if not any(kind.holds(value, finding) for finding in candidates):
                return False
        if values:
            candidates = [f for f in candidates if any(kind.holds(value, f) for value in values)]
            names_one = names_one or kind.names
    return names_one


@dataclass(frozen=True, slots=True)
class _Mention:
    """A way to mention a finding: how to read it from a sentence, and whether a finding has it."""

    mentions: Callable[[str], set[str]]
    holds: Callable[[str, Finding], bool]
    names: bool = True


def _ids(sentence: str) -> set[str]:
    listed = "".join(f" {numbers}" for numbers in _LISTED.findall(sentence))
    return {f"F{int(n)}" for n in [*_ID.findall(sentence), *re.findall(r"\d+", listed)]}


def _files(sentence: str) -> set[str]:
    found = {*_FILE.findall(sentence), *_ABSOLUTE.findall(sentence)}
    return {file.removeprefix("./") for file in found}


def _lines(sentence: str) -> set[str]:
    counted = re.findall(r"\d+", " ".join(_LINE.findall(sentence)))
    return {*counted, *(one or other for one, other in _LINE_OF_FILE.findall(sentence))}


def _is_at(line: str, finding: Finding) -> bool:
    return finding.line <= int(line) <= (finding.end_line or finding.line)


_KINDS = (
    _Mention(lambda sentence: set(_FOREIGN.findall(sentence)), lambda value, finding: False),
    _Mention(_ids, lambda value, finding: finding.id == value),
    _Mention(_files, lambda value, finding: f"/{finding.file}".endswith(f"/{value.lstrip('/')}")),
    _Mention(
        lambda sentence: {rule.lower() for rule in _RULE.findall(sentence)},
        lambda value, finding: finding.rule.lower() == value,
    ),
    _Mention(
        lambda sentence: set(_CWE.findall(sentence)),
        lambda value, finding: finding.cwe == int(value),
    ),
    # Every file has the same line numbers: they are checked, but do not name a finding.
    _Mention(_lines, _is_at, names=False),
)
