"""Isolation by Linux namespaces, with the tool bubblewrap (`bwrap`, 0.6 or newer)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from shutil import which

from fleet.adapters.sandbox.limits import MEBIBYTE, Isolation, Mode
from fleet.adapters.sandbox.users import user_for
from fleet.errors import NotAllowed

INSIDE = "/sandbox"
PROBE_SECONDS = 10
USER_NAMESPACE = ("--unshare-all", "--cap-drop", "ALL")
REAL_USER = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
    *("--cap-drop", "ALL"),
    *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"),
)


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
    prefix = namespace_arguments((), Path("/"), MEBIBYTE, user_for("bubblewrap"))
    command = [*prefix, sys.executable, "-I", "-c", ""]
    try:
        tried = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"a trial of it failed ({error})"
    if tried.returncode == 0:
        return None
    return f"a trial of it failed ({tried.stderr.decode(errors='replace').strip()})"


def namespace_arguments(
    names: Iterable[str], folder: Path, written_bytes: int, user: int | None
) -> list[str]:
    """The command line that comes before the program's own.

    The program sees the interpreter and its libraries, the named files of `folder` (all
    read-only), and two empty folders in memory, `written_bytes` each. It has no network and no
    environment, and shares no process or host name with anyone. Where it will change to `user`,
    what starts it may do that and kill it, and nothing else; where it stays what the worker is,
    it has a user namespace and may do nothing at all.
    """
    size = ["--perms", "0777", "--size", str(written_bytes), "--tmpfs"]
    files = [("--ro-bind", str(folder / name), f"{INSIDE}/{name}") for name in sorted(names)]
    return [
        which("bwrap") or "bwrap",
        *(USER_NAMESPACE if user is None else REAL_USER),
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *(*size, "/tmp", *size, INSIDE),  # noqa: S108
        *(word for path in interpreter_folders() for word in binding(path)),
        *(word for bound in files for word in bound),
        *("--remount-ro", "/", "--chdir", INSIDE),
        "--",
    ]


def binding(path: str) -> list[str]:
    """Show the path inside, under folders that everybody may enter (bwrap's own are for root)."""
    above = [str(folder) for folder in reversed(Path(path).parents)][1:]
    opened = [word for folder in above for word in ("--perms", "0755", "--dir", folder)]
    return [*opened, "--ro-bind-try", path, path]


def interpreter_folders() -> list[str]:
    """What python needs to start and to import what is installed beside it, outermost first."""
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"]
    prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
    prefixes += [path.resolve() for path in prefixes]
    own = {str(path) for path in prefixes if not path.is_relative_to("/usr") and path != Path("/")}
    return [*system, *sorted(own)]
