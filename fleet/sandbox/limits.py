"""The limits of a sandboxed program, and its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "bubblewrap", "landlock", "rlimits"]
Isolation = Literal["bubblewrap", "landlock", "rlimits"]
KilledBy = Literal["time", "cpu", "memory", "disk", "files", "signal"]

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of one run. `docs/sandbox.md` says how each kind of isolation enforces them.

    wall_seconds        from start to end, after which everything is killed
    cpu_seconds         of each process
    memory_bytes        address space of each process
    total_memory_bytes  memory of all processes together
    file_bytes          everything written to files together, and so each file
    files               files and folders that exist at the same time
    open_files          file descriptors of each process
    processes           processes and threads at the same time, the program itself included
    output_bytes        kept of stdout and of stderr each: the first and the last half
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * MEBIBYTE
    total_memory_bytes: int = 1024 * MEBIBYTE
    file_bytes: int = 16 * MEBIBYTE
    files: int = 2048
    open_files: int = 64
    processes: int = 16
    output_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How a run ended. `exit_code` is minus the signal's number if a signal ended the program.

    `killed_by` names the limit that ended it: `time`, `cpu`, `memory`, `disk`, `files`, or `signal`
    for any other signal. A program that runs out of address space, file space or processes gets an
    error of its own (MemoryError, OSError), which appears in `stderr`.
    """

    exit_code: int
    stdout: str
    stderr: str
    killed_by: KilledBy | None
    isolation: Isolation
    seconds: float

    @property
    def timed_out(self) -> bool:
        return self.killed_by == "time"
