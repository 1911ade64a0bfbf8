"""Isolation by Landlock and seccomp, with the library sandlock, on hosts without namespaces."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fleet.sandbox.limits import SandboxLimits

LAUNCHER = Path(__file__).with_name("landlock_launcher.py")
PROBE_SECONDS = 20
SEEN = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/proc")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
# Landlock does not cover these calls: a program could use them on files of the same user that it
# cannot open.
NOT_RULED_BY_LANDLOCK = (
    *("chmod", "fchmodat", "chown", "lchown", "fchownat", "utime", "utimes", "utimensat"),
    *("setxattr", "lsetxattr", "removexattr", "lremovexattr"),
)


@cache
def why_it_does_not_work() -> str | None:
    """Try Landlock once per process with the interpreter inside. Returns None if it works."""
    if find_spec("sandlock") is None:
        return "the package sandlock, which has no wheel for every platform, is not installed"
    command = confined([sys.executable, "-I", "-c", ""], Path("/"), SandboxLimits(), [])
    try:
        tried = subprocess.run(
            command, capture_output=True, timeout=PROBE_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a trial of it failed ({error})"
    if tried.returncode == 0:
        return None
    lines = tried.stderr.decode(errors="replace").strip().splitlines()
    return f"a trial of it failed ({lines[-1] if lines else f'exit {tried.returncode}'})"


def confined(
    program: list[str], folder: Path, limits: SandboxLimits, writable: list[str]
) -> list[str]:
    """The command that runs the program with nothing but the interpreter and `writable`."""
    prefixes = {str(p) for p in (Path(sys.prefix), Path(sys.base_prefix))}
    prefixes |= {str(Path(path).resolve()) for path in prefixes}
    order: dict[str, Any] = {
        "program": program,
        "environment": {"TMPDIR": str(folder)},
        "policy": {
            "fs_readable": [p for p in (*SEEN, *DEVICES, *sorted(prefixes)) if Path(p).exists()],
            "fs_writable": writable,
            "cwd": str(folder),
            # The library counts requested memory, the supervisor used memory. This limit holds
            # between two checks of the supervisor.
            "max_memory": 2 * limits.total_memory_bytes,
            "max_processes": limits.processes,
            "extra_deny_syscalls": list(NOT_RULED_BY_LANDLOCK),
            "clean_env": True,
            "no_coredump": True,
        },
    }
    text = LAUNCHER.read_text(encoding="utf-8")
    return [sys.executable, "-I", "-c", text, json.dumps(order)]
