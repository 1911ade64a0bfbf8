"""Runs both tools over one file after another, in the scan's own child process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from workers.security_scanner.bandit_findings import scan_with_bandit
from workers.security_scanner.hits import Hit, SourceFile
from workers.security_scanner.models import Skipped
from workers.security_scanner.secret_findings import passes_over, scan_for_secrets
from workers.security_scanner.sources import read

PYTHON_SUFFIXES = frozenset({".py", ".pyw"})
MAX_HITS_OF_A_FILE = 1000
"""Further hits are counted but not reported: masking compares each hit with all secrets."""
MAX_LINES_NAMED = 5


@dataclass(slots=True)
class Scan:
    """The results of some files."""

    hits: list[Hit] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    files: int = 0
    lines: int = 0
    suppressed: int = 0

    def add(self, name: str, path: Path) -> None:
        """Scan a file."""
        source = read(path, name)
        if isinstance(source, Skipped):
            self.skipped.append(source)
        else:
            self._add_source(source)

    def _add_source(self, source: SourceFile) -> None:
        failures = [failure for failure in (self._bandit(source), self._secrets(source)) if failure]
        self.skipped += [Skipped(file=source.name, reason=reason) for reason in failures]
        self.skipped += [Skipped(file=source.name, reason=reason) for reason in cut(source)]
        tools = 1 + _is_python(source)
        if len(failures) < tools:
            self.files += 1
            self.lines += len(source.lines)
        more = len(self.hits) - MAX_HITS_OF_A_FILE
        if more > 0:
            del self.hits[MAX_HITS_OF_A_FILE:]
            reason = f"{more} findings more than the {MAX_HITS_OF_A_FILE:,} that are reported"
            self.skipped.append(Skipped(file=source.name, reason=reason))

    def _bandit(self, source: SourceFile) -> str | None:
        if not _is_python(source):
            return None
        scanned = scan_with_bandit(source)
        self.hits += scanned.hits
        self.suppressed += scanned.suppressed
        return scanned.failure

    def _secrets(self, source: SourceFile) -> str | None:
        reason = passes_over(source)
        if reason is None:
            self.hits += scan_for_secrets(source)
        return reason


def cut(source: SourceFile) -> list[str]:
    """The report's notes on lines that are too long for a complete search for secrets."""
    if not source.long_lines:
        return []
    named = ", ".join(map(str, source.long_lines[:MAX_LINES_NAMED]))
    more = len(source.long_lines) - MAX_LINES_NAMED
    lines = f"line {named}" if len(source.long_lines) == 1 else f"lines {named}"
    return [
        f"{lines}{f' and {more} more' if more > 0 else ''}: cut, since longer than "
        f"{source.longest_line:,} characters; the rest of it was not searched for secrets"
    ]


def _is_python(source: SourceFile) -> bool:
    return Path(source.path).suffix.lower() in PYTHON_SUFFIXES
