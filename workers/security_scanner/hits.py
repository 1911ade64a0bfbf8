"""What a tool found, before its secrets are masked. A hit never leaves the scan."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.security_scanner.models import Grade, Tool


@dataclass(frozen=True, slots=True)
class Hit:
    """One hole. `source_line` and `secrets` hold what must not be shown, so no repr has them."""

    tool: Tool
    rule: str
    title: str
    severity: Grade
    confidence: Grade
    cwe: int | None
    file: str
    line: int
    message: str
    source_line: str = field(repr=False)
    column: int | None = None
    end_line: int | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text in lines, its name in the findings, and where it can be read."""

    name: str
    path: str
    lines: tuple[str, ...] = field(repr=False)
    is_utf8: bool = True

    def line(self, number: int) -> str:
        """The line of this number, counted from 1; empty outside the file."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""
