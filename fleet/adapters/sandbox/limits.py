"""What a sandboxed program may use, and what is known of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["auto", "bubblewrap", "rlimits"]
Isolation = Literal["bubblewrap", "rlimits"]
KilledBy = Literal["time", "cpu", "signal"]

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Ceilings of one run. All of them hold in both kinds of isolation unless said otherwise.

    wall_seconds      from start to end, after which everything is killed
    cpu_seconds       of each process
    memory_bytes      address space of each process; the whole run may take `processes` times it
    file_bytes        size of one file; under bubblewrap also of everything written together
    open_files        file descriptors of each process
    processes         processes and threads beside each other, the program itself included; a
                      program that has to run as root may start threads only, however many
    output_bytes      kept of stdout and of stderr each: the first and the last half
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_bytes: int = 512 * MEBIBYTE
    file_bytes: int = 16 * MEBIBYTE
    open_files: int = 64
    processes: int = 16
    output_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """How a run ended. `exit_code` is minus the signal's number where a signal ended the program.

    `killed_by` names the limit that ended it: `time`, `cpu`, or `signal` for any other signal.
    A program that ran out of memory, file size or processes gets an error of its own
    (MemoryError, OSError) and tells of it in `stderr`.
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
