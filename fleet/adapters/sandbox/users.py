"""As whom a sandboxed program runs."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from pathlib import Path

from fleet.adapters.sandbox.limits import Isolation

# The range that systemd sets aside for services with a user of the moment.
FIRST_USER, USERS = 61184, 4336
READ_AND_ENTER = 0o005
# Capabilities by their bit: chown, dac_override, kill, setgid, setuid; and what bubblewrap
# wants to make namespaces without a user namespace, net_admin and sys_admin.
TO_CHANGE_USER = (0, 1, 5, 6, 7)
TO_MAKE_NAMESPACES = (12, 21)


def user_for(isolation: Isolation) -> int | None:
    """A user id for one run that owns nothing, where the worker is root; else None.

    Root is bound neither by file permissions nor by the limit on processes. None, too, where
    root lacks a capability that this takes, or only root can reach the interpreter: bubblewrap
    mounts it anew, the other kind needs every folder above it.
    """
    needed = TO_CHANGE_USER + (TO_MAKE_NAMESPACES if isolation == "bubblewrap" else ())
    if os.geteuid() != 0 or not all(capabilities() >> bit & 1 for bit in needed):
        return None
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent}
    if isolation == "rlimits":
        inside = [*folders, Path(tempfile.gettempdir()) / "run"]
        folders |= {parent for folder in inside for parent in folder.resolve().parents}
    if not all(folder.stat().st_mode & READ_AND_ENTER == READ_AND_ENTER for folder in folders):
        return None
    return FIRST_USER + secrets.randbelow(USERS)


def capabilities() -> int:
    """This process's effective capabilities, as the kernel's bit mask."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
