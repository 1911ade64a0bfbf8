"""A tool's findings before their secrets are masked. A hit never leaves the scan."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.security_scanner.models import Grade, Tool

LONGEST_LINE = 5000
CUT = "(a line of {:,} characters, which is not shown)"


@dataclass(frozen=True, slots=True)
class Hit:
    """One vulnerability. No repr shows `source_line` and `secrets`, which are confidential."""

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
class SourceFile:
    """A file's text in lines, its name in the findings, and its path.

    The search for secrets takes time quadratic in the length of a line. So it reads at most
    `longest_line` characters of a line.
    """

    name: str
    path: str
    lines: tuple[str, ...] = field(repr=False)
    is_utf8: bool = True
    longest_line: int = LONGEST_LINE

    def line(self, number: int) -> str:
        """The line of this number, counted from 1; empty outside the file."""
        return self.lines[number - 1] if 1 <= number <= len(self.lines) else ""

    def shown(self, number: int) -> str:
        """The line for a finding. A long line is not shown, because its cut may divide a secret."""
        line = self.line(number)
        return line if len(line) <= self.longest_line else CUT.format(len(line))

    @property
    def long_lines(self) -> list[int]:
        """The numbers of the lines that are cut."""
        lines = enumerate(self.lines, start=1)
        return [number for number, line in lines if len(line) > self.longest_line]

    def cut_text(self) -> str:
        """The text, with its long lines cut."""
        return "\n".join(line[: self.longest_line] for line in self.lines)
