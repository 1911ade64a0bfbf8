"""A result of the security scanner as Rich prints it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.security_scanner.models import Finding, Grade, SecurityScanResult

WIDE_PLACE = 48
SEVERITY_STYLES: dict[Grade, str] = {"high": "bold red", "medium": "yellow", "low": "cyan"}


def findings_view(result: SecurityScanResult, max_rows: int | None = None) -> Group:
    """Findings of a scan as a table, most severe first, with the triage."""
    findings = result.findings
    counts = ", ".join(f"{number} {grade}" for grade, number in result.counts)
    head = f"{len(findings)} findings ({counts}) in {result.files_scanned} files"
    parts: list[RenderableType] = [Text(head, style="bold")]
    if findings:
        parts.append(_findings_table(findings[:max_rows]))
    if max_rows is not None and len(findings) > max_rows:
        parts.append(Text(f"and {len(findings) - max_rows} more"))
    if triage := result.triage:
        parts += [Text(f"Fix first (written by {triage.written_by}):"), Text(triage.text)]
    return Group(*parts)


def _findings_table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id")
    table.add_column("severity")
    places = [f"{finding.file}:{finding.line}" for finding in findings]
    table.add_column("where", overflow="fold", min_width=min(WIDE_PLACE, max(map(len, places))))
    table.add_column("CWE", justify="right")
    table.add_column("what")
    for finding, place in zip(findings, places, strict=True):
        table.add_row(
            finding.id,
            Text(finding.severity, style=SEVERITY_STYLES[finding.severity]),
            place,
            str(finding.cwe or "-"),
            _in_short(finding.message),
        )
    return table


def _in_short(message: str) -> str:
    """A scanner's message up to its first break after 20 characters."""
    return re.split(r"(?<=.{20})[.,;:] ", message, maxsplit=1)[0].rstrip(".")
