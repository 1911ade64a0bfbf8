"""The user that runs a sandboxed program."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

# The range that systemd reserves for services with a dynamic user.
FIRST_USER, USERS = 61184, 4336
READ_AND_ENTER = 0o005
# Capabilities by bit: chown, dac_override, kill, setgid, setuid; and the one that bubblewrap needs
# for mounts without a user namespace.
TO_CHANGE_USER = (0, 1, 5, 6, 7)
SYS_ADMIN = 21


def new_user() -> int:
    """A user id for one run, which owns nothing."""
    return FIRST_USER + secrets.randbelow(USERS)


def is_root() -> bool:
    return os.geteuid() == 0


def may_change_user() -> bool:
    """Whether root has the needed capabilities, and its user namespace maps these users."""
    if not all(capabilities() >> bit & 1 for bit in TO_CHANGE_USER):
        return False
    return all(_knows(kind, FIRST_USER) and _knows(kind, FIRST_USER + USERS) for kind in "ug")


def _knows(kind: str, number: int) -> bool:
    lines = Path(f"/proc/self/{kind}id_map").read_text().splitlines()
    ranges = [(int(first), int(length)) for first, _, length in map(str.split, lines)]
    return any(first <= number < first + length for first, length in ranges)


def may_mount() -> bool:
    return bool(capabilities() >> SYS_ADMIN & 1)


def others_reach_python(also: Iterable[Path] = ()) -> bool:
    """Whether a user who owns nothing can start this interpreter and enter these folders."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    inside = [*folders, *also, Path(tempfile.gettempdir()) / "run"]
    folders |= {parent for folder in inside for parent in folder.resolve().parents}
    return all(folder.stat().st_mode & READ_AND_ENTER == READ_AND_ENTER for folder in folders)


def host_user() -> int | None:
    """A temporary user id if the worker is root and can become another user; else None."""
    return new_user() if is_root() and may_change_user() and others_reach_python() else None


def capabilities() -> int:
    """This process's effective capabilities, as the kernel's bit mask."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
