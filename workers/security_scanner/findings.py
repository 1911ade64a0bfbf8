"""Turns hits into findings: masked, sorted, numbered and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workers.security_scanner.hits import Hit
from workers.security_scanner.masking import Masker
from workers.security_scanner.models import GRADES, Counts, Finding, Grade


def findings_of(hits: Sequence[Hit], min_severity: Grade) -> tuple[Finding, ...]:
    """The findings of at least this severity, ordered by severity, confidence, file and line.

    Secrets of hits below `min_severity` are also masked in the other findings.
    """
    masker = Masker(hits)
    floor = GRADES.index(min_severity)
    kept = sorted((hit for hit in hits if GRADES.index(hit.severity) >= floor), key=_order)
    return tuple(_finding(number, hit, masker) for number, hit in enumerate(kept, start=1))


def counts_of(findings: Sequence[Finding]) -> Counts:
    """The number of findings of each severity."""
    counted = Counter(finding.severity for finding in findings)
    return Counts(high=counted["high"], medium=counted["medium"], low=counted["low"])


def _order(hit: Hit) -> tuple[int, int, str, int, str, int]:
    return (
        -GRADES.index(hit.severity),
        -GRADES.index(hit.confidence),
        hit.file,
        hit.line,
        hit.rule,
        hit.column or 0,
    )


def _finding(number: int, hit: Hit, masker: Masker) -> Finding:
    return Finding(
        id=f"F{number}",
        tool=hit.tool,
        rule=hit.rule,
        title=hit.title,
        severity=hit.severity,
        confidence=hit.confidence,
        cwe=hit.cwe,
        file=hit.file,
        line=hit.line,
        column=hit.column,
        end_line=hit.end_line,
        snippet=masker.snippet(hit),
        message=masker.text(hit.message),
    )
