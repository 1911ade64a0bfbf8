"""The findings as SARIF 2.1.0, the format of scan results for code hosts.

One run per tool. Rules have their CWE twice: as the tag that code hosts read, and as the standard's
relationship to a taxonomy.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any, get_args
from urllib.parse import quote

from workers.security_scanner.models import (
    GRADES,
    Finding,
    Grade,
    SecurityScanResult,
    Skipped,
    Tool,
)

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "SCANROOT"
LEVELS: dict[Grade, str] = {"low": "note", "medium": "warning", "high": "error"}
# Code hosts grade security findings from 0 to 10; these fall into the bands of those names.
SECURITY_SEVERITY: dict[Grade, str] = {"low": "3.0", "medium": "5.5", "high": "8.0"}


def to_sarif(result: SecurityScanResult) -> dict[str, Any]:
    """The whole result as a SARIF log, ready for `json.dump`."""
    runs = [_run(tool, result) for tool in get_args(Tool)]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def sarif_text(result: SecurityScanResult) -> str:
    """The SARIF log as the text of a file."""
    return json.dumps(to_sarif(result), indent=2) + "\n"


def _run(tool: Tool, result: SecurityScanResult) -> dict[str, Any]:
    findings = [finding for finding in result.findings if finding.tool == tool]
    rules = list(dict.fromkeys(finding.rule for finding in findings))
    prints = _fingerprints(findings)
    return {
        "tool": {"driver": _driver(tool, [_of_rule(findings, rule) for rule in rules])},
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(result.skipped)],
        "taxonomies": _taxonomies(findings),
        "results": [
            _result(finding, rules.index(finding.rule), fingerprint)
            for finding, fingerprint in zip(findings, prints, strict=True)
        ],
    }


def _driver(tool: Tool, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": tool,
        "version": version(tool),
        "rules": rules,
        "supportedTaxonomies": [{"name": "CWE"}],
    }


def _of_rule(findings: Sequence[Finding], rule: str) -> dict[str, Any]:
    """A rule with the severity of its most severe finding, because bandit grades each finding."""
    mine = [finding for finding in findings if finding.rule == rule]
    gravest = max(mine, key=lambda finding: GRADES.index(finding.severity))
    described: dict[str, Any] = {
        "id": rule,
        "name": gravest.title,
        "shortDescription": {"text": gravest.title},
        "defaultConfiguration": {"level": LEVELS[gravest.severity]},
        "properties": {
            "tags": ["security", *_tags(gravest)],
            "precision": gravest.confidence,
            "security-severity": SECURITY_SEVERITY[gravest.severity],
        },
    }
    if gravest.cwe:
        target = {"id": str(gravest.cwe), "toolComponent": {"name": "CWE"}}
        described["relationships"] = [{"target": target, "kinds": ["superset"]}]
    return described


def _tags(finding: Finding) -> list[str]:
    return [f"external/cwe/cwe-{finding.cwe}"] if finding.cwe else []


def _taxonomies(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    weaknesses = sorted({finding.cwe for finding in findings if finding.cwe})
    if not weaknesses:
        return []
    taxa = [{"id": str(number)} for number in weaknesses]
    return [{"name": "CWE", "organization": "MITRE", "isComprehensive": False, "taxa": taxa}]


def _invocation(skipped: Sequence[Skipped]) -> dict[str, Any]:
    notes = [
        {
            "level": "warning",
            "message": {"text": f"not scanned: {file.reason}"},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(file.file)}}],
        }
        for file in skipped
    ]
    return {"executionSuccessful": True, "toolExecutionNotifications": notes}


def _result(finding: Finding, rule_index: int, fingerprint: str) -> dict[str, Any]:
    location = {"artifactLocation": _artifact(finding.file), "region": _region(finding)}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {"ruleFileSnippet/v1": fingerprint},
        "properties": {
            "id": finding.id,
            "severity": finding.severity,
            "confidence": finding.confidence,
            "tags": _tags(finding),
        },
    }


def _artifact(file: str) -> dict[str, Any]:
    if PurePosixPath(file).is_absolute():
        return {"uri": f"file://{quote(file)}"}
    return {"uri": quote(file), "uriBaseId": ROOT}


def _region(finding: Finding) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": finding.line, "snippet": {"text": finding.snippet}}
    if finding.column is not None:
        region["startColumn"] = finding.column
    if finding.end_line is not None:
        region["endLine"] = finding.end_line
    return region


def _fingerprints(findings: Sequence[Finding]) -> Iterator[str]:
    """Fingerprints of rule, file and snippet, which stay the same if lines above a finding move.

    The order distinguishes equal lines of one file.
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        place = (finding.rule, finding.file, finding.snippet)
        seen[place] += 1
        text = "\0".join((*place, str(seen[place])))
        yield hashlib.sha256(text.encode()).hexdigest()[:32]
