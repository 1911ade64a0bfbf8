"""Isolation by Linux namespaces, with the tool bubblewrap (`bwrap`, 0.6 or newer)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from shutil import which

from fleet.adapters.sandbox.limits import MEBIBYTE, Isolation, Mode
from fleet.errors import NotAllowed

INSIDE = "/sandbox"
PROBE_SECONDS = 10


def isolation_for(mode: Mode) -> Isolation:
    """What a run in this mode gets on this machine.

    Raises `NotAllowed` for mode `bubblewrap` where that does not work.
    """
    if mode == "rlimits":
        return "rlimits"
    reason = why_it_does_not_work()
    if reason is None:
        return "bubblewrap"
    if mode == "auto":
        return "rlimits"
    raise NotAllowed(
        f"code may only run in bubblewrap here, and {reason}; install bubblewrap 0.6 or newer and "
        "allow unprivileged user namespaces, or set agents.sandbox to auto to make do with rlimits"
    )


@cache
def why_it_does_not_work() -> str | None:
    """Try it once per process with the interpreter inside; None where it works."""
    if which("bwrap") is None:
        return "there is no bwrap on the PATH"
    command = [*namespace_arguments((), Path("/"), MEBIBYTE), sys.executable, "-I", "-c", ""]
    try:
        tried = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a trial of it failed ({error})"
    if tried.returncode == 0:
        return None
    return f"a trial of it failed ({tried.stderr.decode(errors='replace').strip()})"


def namespace_arguments(names: Iterable[str], folder: Path, written_bytes: int) -> list[str]:
    """The command line that comes before the program's own.

    The program sees the interpreter and its libraries, the named files of `folder` (all
    read-only), and two empty folders in memory, `written_bytes` each. It has no network, no
    environment and no capabilities, and shares no process, user or host name with anyone.
    """
    size = ["--size", str(written_bytes), "--tmpfs"]
    files = [("--ro-bind", str(folder / name), f"{INSIDE}/{name}") for name in sorted(names)]
    return [
        which("bwrap") or "bwrap",
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"),
        *("--cap-drop", "ALL", "--hostname", "sandbox"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *(*size, "/tmp", *size, INSIDE),  # noqa: S108
        *(word for path in interpreter_folders() for word in ("--ro-bind-try", path, path)),
        *(word for binding in files for word in binding),
        *("--remount-ro", "/", "--chdir", INSIDE),
        "--",
    ]


def interpreter_folders() -> list[str]:
    """What python needs to start and to import what is installed beside it, outermost first."""
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"]
    prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
    prefixes += [path.resolve() for path in prefixes]
    own = {str(path) for path in prefixes if not path.is_relative_to("/usr") and path != Path("/")}
    return [*system, *sorted(own)]
