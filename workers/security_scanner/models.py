"""The payload and the result of the security scanner."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fleet.agent import Payload, Result

Grade = Literal["low", "medium", "high"]
Tool = Literal["bandit", "detect-secrets"]
PathText = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=200)]
# The length is not part of the pattern: as {0,99} of Unicode's \w it would take 8 MB to compile.
ScriptName = Annotated[str, StringConstraints(max_length=103, pattern=r"^\w[\w.\-]*\.py$")]

GRADES: tuple[Grade, ...] = ("low", "medium", "high")
INLINE_NAME = "source.py"
DEFAULT_EXCLUDE = (".venv", ".git", "node_modules", "__pycache__")


class SecurityScanPayload(Payload):
    """What to scan: files and folders, or one Python text.

    A relative path starts at the first folder that agents may read. `exclude` has globs, which are
    matched with every part of a path under a scanned folder and with the whole path. A value
    replaces the default. More than `max_files` files are refused.
    """

    paths: Annotated[tuple[PathText, ...], Field(max_length=1000)] | None = None
    source: str | None = None
    filename: ScriptName | None = None
    min_severity: Grade = "low"
    exclude: Annotated[tuple[Glob, ...], Field(max_length=100)] = DEFAULT_EXCLUDE
    triage: bool = True
    max_files: Annotated[int, Field(ge=1, le=100_000)] = 2000

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.paths) == (self.source is not None):
            raise ValueError("give either paths (files or folders) or source (Python text)")
        if self.filename is not None and self.source is None:
            raise ValueError("filename names inline source; remove it, or give source")
        return self


class ResultPart(BaseModel):
    """A piece of the result."""

    model_config = ConfigDict(frozen=True)


class Finding(ResultPart):
    """One vulnerability. `id` counts from F1 in the order of the list. Lines and columns count from
    1.

    `file` is relative to the first folder that agents may read, or absolute outside it.
    `snippet` is the line itself, with every secret that the scan found masked.
    """

    id: str
    tool: Tool
    rule: str
    title: str
    severity: Grade
    confidence: Grade
    cwe: int | None
    file: str
    line: int
    column: int | None = None
    end_line: int | None = None
    snippet: str
    message: str


class Counts(ResultPart):
    """The number of findings of each severity."""

    high: int = 0
    medium: int = 0
    low: int = 0


class Skipped(ResultPart):
    """A file that was not scanned, or not by every tool, and why."""

    file: str
    reason: str


class Triage(ResultPart):
    """A text about what to fix first.

    `written_by` is `rules` if the model's text named no finding; `reason` then says why. `dropped`
    counts the model's sentences that were left out, over all attempts.
    """

    text: str
    written_by: Literal["model", "rules"]
    reason: str | None = None
    dropped: int = 0


class SecurityScanResult(Result):
    """The findings, most severe first. `suppressed` counts the places with a `nosec` comment.

    Without a triage, `no_triage_reason` says why there is none.
    """

    findings: tuple[Finding, ...]
    counts: Counts
    files_scanned: int
    lines_scanned: int
    suppressed: int
    skipped: tuple[Skipped, ...]
    triage: Triage | None = None
    no_triage_reason: str | None = None
