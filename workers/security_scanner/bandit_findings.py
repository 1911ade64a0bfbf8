"""Bandit, run as a library over one Python file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from bandit.core import config, extension_loader, manager

from workers.security_scanner.hits import Hit, SourceFile
from workers.security_scanner.models import GRADES, Grade

# The three rules whose message quotes the password that they found.
PASSWORD_RULES = frozenset({"B105", "B106", "B107"})
_QUOTED_PASSWORD = re.compile(r"^(?P<what>[^:]+): '(?P<password>.*)'$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class BanditScan:
    """The hits in one file, the number of places that comments suppress, and a read failure."""

    hits: list[Hit]
    suppressed: int
    failure: str | None


def scan_with_bandit(source: SourceFile) -> BanditScan:
    """Run every rule of bandit's default profile over the file."""
    scanner = manager.BanditManager(config.BanditConfig(), "file", quiet=True)
    scanner.files_list = [source.path]
    scanner.run_tests()
    counted = scanner.metrics.data.get(source.path, {})
    return BanditScan(
        hits=[_hit(issue, source) for issue in scanner.results],
        suppressed=counted.get("nosec", 0) + counted.get("skipped_tests", 0),
        failure=next((f"bandit: {reason}" for _, reason in scanner.get_skipped()), None),
    )


def _hit(issue: Any, source: SourceFile) -> Hit:
    message, password = _without_password(issue.test_id, issue.text)
    line = max(issue.lineno or 1, 1)
    return Hit(
        tool="bandit",
        rule=issue.test_id,
        title=_title(issue),
        severity=_grade(issue.severity),
        confidence=_grade(issue.confidence),
        cwe=issue.cwe.id or None,
        file=source.name,
        line=line,
        message=message,
        source_line=source.shown(line),
        column=_column(source.line(line), issue.col_offset),
        end_line=max(line, *issue.linerange) if issue.linerange else line,
        secrets=(password,) if password else (),
    )


def _without_password(rule: str, text: str) -> tuple[str, str]:
    if rule not in PASSWORD_RULES:
        return text, ""
    quoted = _QUOTED_PASSWORD.match(text)
    return (quoted["what"], quoted["password"]) if quoted else ("Possible hardcoded password", "")


def _title(issue: Any) -> str:
    """Bandit has one name for all forbidden calls and imports; their own names say more."""
    listed = extension_loader.MANAGER.blacklist_by_id.get(issue.test_id)
    return str(listed["name"] if listed else issue.test).replace("_", " ")


def _grade(word: str) -> Grade:
    """Bandit's UNDEFINED becomes low: a finding without a grade is kept."""
    return next((grade for grade in GRADES if grade == word.lower()), "low")


def _column(line: str, utf8_offset: int) -> int | None:
    """Convert an offset in UTF-8 bytes from 0 to a column in characters from 1."""
    if utf8_offset < 0:
        return None
    return len(line.encode()[:utf8_offset].decode(errors="ignore")) + 1
