"""Starts one program under resource limits, and leaves no process of it behind.

This file is not imported. The sandboxed interpreter runs its text (`python -c`) with one JSON
argument. If the starting process set the limits between fork and exec (`preexec_fn`), Python would
run in a child forked from a process with many threads, where any lock may stay locked for ever.
Here the fork happens in a process with a single thread.

The supervisor stays the parent of the program. As the subreaper of everything below it, it also
finds processes that have left the program's process group, and kills them at the end.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38  # a setuid program gains nothing, and can be killed
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAPABILITIES = 64  # the size of the kernel's bit mask
KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL = {"x86_64": 250, "aarch64": 219}  # the C library has no function for this call

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 512
# The interval of usage checks: short in a process namespace, where a check takes 0.2 ms, longer
# among all processes of a host.
LOOK_SECONDS, LOOK_SECONDS_ON_HOST = 0.05, 0.2
WATCHED = (signal.SIGCHLD, signal.SIGTERM)


def prctl(option: int, value: int, pointer: int = 0) -> int:
    """The Linux call `prctl`. Raises `OSError` where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    answer: int = libc.prctl(option, value, pointer, 0, 0)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def leave_keyring() -> None:
    """Start a new session keyring, because the worker's may have keys."""
    number = KEYCTL.get(os.uname().machine)
    libc = ctypes.CDLL(None, use_errno=True)
    if number is None or libc.syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None) >= 0:
        return
    # A kernel without keys, or one that forbids the program to ask for any.
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
        raise OSError(ctypes.get_errno(), "no session keyring of its own")


def drop_capabilities() -> None:
    """Drop all capabilities of the program, even if it stays root."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    with suppress(OSError):  # past the last capability of this kernel
        for number in range(CAPABILITIES):
            if prctl(PR_CAPBSET_READ, number) and not may_drop(number) and os.geteuid() == 0:
                raise KeyError("root's capabilities cannot be dropped")


def may_drop(number: int) -> bool:
    try:
        prctl(PR_CAPBSET_DROP, number)
    except PermissionError:
        return False
    return True


def process_ids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def stat_fields(process_id: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name: state, parent, ...; [] once gone."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def descendants() -> dict[int, str]:
    """Every process below this one, with its state (Z where it is dead and not yet reaped)."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for process_id in process_ids():
        if fields := stat_fields(process_id):
            parents.setdefault(int(fields[1]), []).append((process_id, fields[0]))
    found: dict[int, str] = {}
    waiting = [os.getpid()]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting.extend(process_id for process_id, _ in children)
    return found


def threads_of_this_user() -> int:
    """The number that the kernel compares with RLIMIT_NPROC: all threads of the user, this one
    included.

    Dead processes are not counted: they would leave room for as many more.
    """
    total = 0
    for process_id in process_ids():
        with suppress(OSError):
            text = Path(f"/proc/{process_id}/status").read_text()
            facts = dict(line.split(":", 1) for line in text.splitlines())
            dead = facts["State"].split()[0] in ("Z", "X")
            if int(facts["Uid"].split()[0]) == os.getuid() and not dead:
                total += int(facts["Threads"])
    return total


def below(order: dict[str, Any]) -> list[int]:
    """The processes of the run."""
    if order["own_processes"]:
        return [process_id for process_id in process_ids() if process_id != os.getpid()]
    return list(descendants())


def read_number(path: str, field: int, label: str = "") -> int:
    """A number in a file in /proc, summed over the lines with this label; 0 if the file is gone."""
    try:
        lines = Path(path).read_text().splitlines()
        return sum(int(line.split()[field]) for line in lines if line.startswith(label))
    except (OSError, ValueError, IndexError):
        return 0


def memory_files(processes: Iterable[int]) -> int:
    """Bytes of files in memory without a folder (memfd_create), each counted once."""
    sizes: dict[tuple[int, int], int] = {}
    for process_id in processes:
        with suppress(OSError):
            for entry in os.scandir(f"/proc/{process_id}/fd"):
                with suppress(OSError):
                    if os.readlink(entry.path).startswith("/memfd:"):  # noqa: PTH115
                        found = entry.stat()
                        sizes[found.st_dev, found.st_ino] = found.st_blocks * BLOCK
    return sum(sizes.values())


def memory_used(order: dict[str, Any], processes: list[int]) -> int:
    """Bytes of memory that the run uses. The exact sum is computed only if a rough sum, which
    counts shared pages once per process, is over the limit."""
    kept = memory_files(processes)
    if order["own_processes"]:
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        kept += sum(int(line.split()[14]) for line in lines)
    rough = sum(read_number(f"/proc/{number}/statm", 1) * PAGE for number in processes)
    if rough + kept <= order["total_memory_bytes"]:
        return rough + kept
    exact = 0
    for number in processes:
        path = f"/proc/{number}/smaps_rollup"
        exact += 1024 * read_number(path, 1, "Pss:") or PAGE * read_number(
            f"/proc/{number}/statm", 1
        )
    return exact + kept


def hides(process_id: int) -> bool:
    """Whether a process of the program hides its memory (PR_SET_DUMPABLE), so that it cannot be
    counted. A process that is about to end has no memory left."""
    try:
        os.listdir(f"/proc/{process_id}/fd")  # noqa: PTH208
    except PermissionError:
        return read_number(f"/proc/{process_id}/status", 1, "VmSize:") > 0
    except OSError:
        return False
    return False


def written(folder: str) -> tuple[int, int]:
    """Bytes and entries below the folder, as far as they are visible."""
    space, entries = 0, 0
    for path, folders, files in os.walk(folder, onerror=None):
        entries += len(folders) + len(files)
        for name in files:
            with suppress(OSError):
                space += Path(path, name).lstat().st_blocks * BLOCK
    return space, entries


class Usage:
    """The usage of all processes of a run together, compared with its limits."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.hidden: set[int] = set()
        # The contents of the folder before the program started.
        self.space, self.entries = (0, 0) if order["own_processes"] else written(order["folder"])

    def over(self) -> str | None:
        """The limit that the run exceeds, or None."""
        processes = below(self.order)
        # At an exec a process is hidden for a moment.
        hidden = {number for number in processes if hides(number)}
        stayed, self.hidden = hidden & self.hidden, hidden
        if stayed and self.order["own_processes"]:
            return "memory"
        if memory_used(self.order, processes) > self.order["total_memory_bytes"]:
            return "memory"
        return self._files()

    def _files(self) -> str | None:
        if self.order["own_processes"]:
            # The file system has its size; its entries are counted here.
            found = os.statvfs(self.order["folder"])
            return "files" if found.f_files - found.f_ffree > self.order["files"] else None
        space, entries = written(self.order["folder"])
        if space - self.space > self.order["file_bytes"]:
            return "disk"
        return "files" if entries - self.entries > self.order["files"] else None


def set_limits(order: dict[str, Any]) -> None:
    cpu_seconds = order["cpu_seconds"]
    # With a user namespace of its own the run's processes are all that count.
    others = 1 if order["own_processes"] else threads_of_this_user() - 1 + order["helpers"]
    for kind, soft, hard in (
        # The hard limit is a second later: a program may catch the soft one's SIGXCPU.
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1),
        (resource.RLIMIT_AS, order["memory_bytes"], order["memory_bytes"]),
        (resource.RLIMIT_FSIZE, order["file_bytes"], order["file_bytes"]),
        (resource.RLIMIT_NOFILE, order["open_files"], order["open_files"]),
        (resource.RLIMIT_NPROC, others + order["processes"], others + order["processes"]),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def change_user(user: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def become_program(order: dict[str, Any]) -> NoReturn:
    """Become the program in the forked child. Never returns to the supervisor's code."""
    try:
        prctl(PR_SET_DUMPABLE, 1)  # or it would count as a program that hides
        leave_keyring()
        drop_capabilities()
        if order["user"] is not None:
            change_user(order["user"])
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would undo it
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(order["folder"])
        set_limits(order)
        # Running the program of the order without a shell is what this process is for.
        os.execve(  # noqa: S606  # nosec B606
            order["arguments"][0], order["arguments"], order["environment"]
        )
    except (OSError, KeyError) as error:
        os.write(2, f"the sandbox could not start the program: {error}\n".encode())
    os._exit(127)


def kill_everything_below() -> None:
    """Stop all processes first, so that none forks while the others are killed."""
    for number, done in ((signal.SIGSTOP, "ZXTt"), (signal.SIGKILL, "ZX")):
        while targets := [pid for pid, state in descendants().items() if state not in done]:
            for process_id in targets:
                with suppress(ProcessLookupError):
                    os.kill(process_id, number)
            time.sleep(0.001)


def ending(status: int, cpu_used: float, order: dict[str, Any]) -> dict[str, Any]:
    exit_code = os.waitstatus_to_exitcode(status)
    killed_by = "signal" if exit_code < 0 else None
    over = exit_code == -signal.SIGKILL and cpu_used >= order["cpu_seconds"]
    if over or exit_code == -signal.SIGXCPU:
        killed_by = "cpu"
    return {"exit_code": exit_code, "killed_by": killed_by}


def reap(program: int, order: dict[str, Any]) -> dict[str, Any] | None:
    """Take the exit status of every dead child, adopted ones included. Returns the program's end,
    if it has ended."""
    with suppress(ChildProcessError):
        while True:
            process_id, status, usage = os.wait4(-1, os.WNOHANG)
            if process_id == program:
                return ending(status, usage.ru_utime + usage.ru_stime, order)
            if process_id == 0:
                break
    return None


def watch(program: int, order: dict[str, Any]) -> dict[str, Any]:
    """Wait until the program ends, SIGTERM arrives, or its processes together exceed a limit."""
    usage = Usage(order)
    look_every = LOOK_SECONDS if order["own_processes"] else LOOK_SECONDS_ON_HOST
    while True:
        found = signal.sigtimedwait(WATCHED, look_every)
        if found and found.si_signo == signal.SIGTERM:
            return {"exit_code": -signal.SIGKILL, "killed_by": "signal"}
        if report := reap(program, order):
            return report
        if found is None and (limit := usage.over()):
            return {"exit_code": -signal.SIGKILL, "killed_by": limit}


def main() -> None:
    order = json.loads(sys.argv[1])
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_DUMPABLE, 0)  # the program may be of the same user, and must not look in here
    os.set_inheritable(order["status_descriptor"], False)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    program = os.fork()
    if program == 0:
        become_program(order)
    report = watch(program, order)
    kill_everything_below()
    os.write(order["status_descriptor"], json.dumps(report).encode())


if __name__ == "__main__":
    main()
