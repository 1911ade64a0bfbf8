"""Limits a whole run with a Linux control group (version 2), if the worker may make one.

A group with processes cannot distribute memory below it. So the run's group is beside the worker's
own, in a parent that is delegated to the worker and has no process itself, as systemd makes it with
`Delegate=yes` and `DelegateSubgroup=`.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from fleet.sandbox.limits import MEBIBYTE, SandboxLimits

MOUNT, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
NEEDED = {"memory", "pids"}
# The memory and processes of the tools around a program: bubblewrap and the supervisor's Python.
OWN_BYTES, OWN_PROCESSES = 64 * MEBIBYTE, 8
# A worker directly in a systemd unit, and in no group below it, has no usable parent.
UNITS = (".service", ".scope", ".slice")
ENDING_SECONDS, LOOK_SECONDS = 2.0, 0.01
ENTER = 'echo 0 > "$0/cgroup.procs" && exec "$@"'


@cache
def parent(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Path | None:
    """The group in which runs' groups can have memory and process limits; None if there is none."""
    with suppress(OSError, ValueError):
        lines = membership.read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::/")), None)
        if path is None or not (mount / "cgroup.controllers").exists():
            return None
        own = mount / path.lstrip("/")
        if own.suffix in UNITS:
            return None
        # Only the machine's root group may have processes and distribute resources at once.
        found = own if own == mount else own.parent
        if NEEDED - set((found / "cgroup.subtree_control").read_text().split()):
            (found / "cgroup.subtree_control").write_text("+memory +pids")
        Path(mkdtemp(prefix="fleet-trial-", dir=found)).rmdir()
        return found if os.access(found / "cgroup.procs", os.W_OK) else None
    return None


class Group:
    """The group of one run, made with its limits. `end` removes it when the run is over."""

    def __init__(self, above: Path, limits: SandboxLimits, helpers: int) -> None:
        self.folder = Path(mkdtemp(prefix="fleet-sandbox-", dir=above))
        # Files in memory count as memory.
        memory = limits.total_memory_bytes + limits.file_bytes + OWN_BYTES
        try:
            self._set("memory.max", memory)
            self._set("pids.max", limits.processes + OWN_PROCESSES + helpers)
            with suppress(FileNotFoundError, PermissionError):  # a kernel that counts no swap
                self._set("memory.swap.max", 0)
        except OSError:
            self.folder.rmdir()
            raise

    def _set(self, name: str, value: int) -> None:
        (self.folder / name).write_text(str(value))

    def entered(self, command: list[str]) -> list[str]:
        """The command line that joins the group before anything else."""
        return ["/bin/sh", "-c", ENTER, str(self.folder), *command]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the run for its memory."""
        return self._count("memory.events", "oom_kill") > 0

    async def end(self) -> None:
        """Kill the remaining processes and remove the group."""
        with suppress(OSError):  # kernels before 5.14 cannot; all has been killed one by one
            self._set("cgroup.kill", 1)
        give_up = time.monotonic() + ENDING_SECONDS
        while self._populated() and time.monotonic() < give_up:  # noqa: ASYNC110  # only a file tells
            await asyncio.sleep(LOOK_SECONDS)
        with suppress(OSError):
            self.folder.rmdir()

    def _populated(self) -> bool:
        return self._count("cgroup.events", "populated") > 0

    def _count(self, name: str, key: str) -> int:
        try:
            words = (self.folder / name).read_text().split()
            return int(dict(zip(words[::2], words[1::2], strict=False)).get(key, 0))
        except (OSError, ValueError):
            return 0


def group_of(limits: SandboxLimits, helpers: int) -> Group | None:
    """A group for one run, or None if the worker may not make one."""
    above = parent()
    with suppress(OSError):
        return Group(above, limits, helpers) if above else None
    return None
