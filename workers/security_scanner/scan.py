"""Both tools over many files, one file after the other, so that a scan can be stopped between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from workers.security_scanner.bandit_findings import scan_with_bandit
from workers.security_scanner.hits import Hit, Source
from workers.security_scanner.models import Skipped
from workers.security_scanner.secret_findings import passes_over, scan_for_secrets
from workers.security_scanner.sources import read

PYTHON_SUFFIXES = frozenset({".py", ".pyw"})


@dataclass(slots=True)
class Scan:
    """What was found so far. Only one thread at a time adds to it."""

    hits: list[Hit] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    files: int = 0
    lines: int = 0
    suppressed: int = 0

    def add(self, files: Iterable[tuple[str, Path]], stop: Event) -> None:
        """Scan the files; return before the next one as soon as `stop` is set."""
        for name, path in files:
            if stop.is_set():
                return
            source = read(path, name)
            if isinstance(source, Skipped):
                self.skipped.append(source)
            else:
                self._add_source(source)

    def _add_source(self, source: Source) -> None:
        failures = [failure for failure in (self._bandit(source), self._secrets(source)) if failure]
        self.skipped += [Skipped(file=source.name, reason=reason) for reason in failures]
        tools = 1 + _is_python(source)
        if len(failures) < tools:
            self.files += 1
            self.lines += len(source.lines)

    def _bandit(self, source: Source) -> str | None:
        if not _is_python(source):
            return None
        scanned = scan_with_bandit(source)
        self.hits += scanned.hits
        self.suppressed += scanned.suppressed
        return scanned.failure

    def _secrets(self, source: Source) -> str | None:
        reason = passes_over(source)
        if reason is None:
            self.hits += scan_for_secrets(source)
        return reason


def _is_python(source: Source) -> bool:
    return Path(source.path).suffix.lower() in PYTHON_SUFFIXES
