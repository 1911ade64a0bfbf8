"""Starts one program under resource limits, and leaves no process of it behind.

This file is not imported: its text is what the sandboxed interpreter runs (`python -c`),
with one JSON argument. Limits set by the starting process between fork and exec
(`preexec_fn`) would run Python in a child forked from a process with many threads, where
any lock may be held for ever; here the fork happens in a process with a single thread.

The supervisor stays as the parent of the program. As the subreaper of everything below it,
it also finds what has left the program's process group, and kills it at the end.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38  # a setuid program gains nothing, and can be killed
POLL_SECONDS = 0.1
WATCHED = (signal.SIGCHLD, signal.SIGTERM)


def prctl(option: int, value: int) -> None:
    """The Linux call `prctl`. Raises `OSError` where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


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
    """What the kernel compares with RLIMIT_NPROC: all threads of the user, not those below us."""
    total = 0
    for process_id in process_ids():
        try:
            mine = Path(f"/proc/{process_id}").stat().st_uid == os.getuid()
        except OSError:
            continue
        fields = stat_fields(process_id) if mine else []
        total += int(fields[17]) if fields else 0
    return total


def set_limits(order: dict[str, Any]) -> None:
    cpu_seconds = order["cpu_seconds"]
    others = threads_of_this_user()
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


def become_program(order: dict[str, Any]) -> NoReturn:
    """Called in the forked child: never returns to the supervisor's code."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(order["folder"])
        set_limits(order)
        os.execve(order["arguments"][0], order["arguments"], order["environment"])  # noqa: S606
    except OSError as error:
        os.write(2, f"the sandbox could not start the program: {error}\n".encode())
    os._exit(127)


def kill_everything_below() -> None:
    """Freeze first, so that nothing forks while the rest is being killed."""
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
    """Take the exit status of every dead child, adopted ones too; tell the program's ending."""
    with suppress(ChildProcessError):
        while True:
            process_id, status, usage = os.wait4(-1, os.WNOHANG)
            if process_id == program:
                return ending(status, usage.ru_utime + usage.ru_stime, order)
            if process_id == 0:
                break
    return None


def too_many(order: dict[str, Any]) -> bool:
    """RLIMIT_NPROC does not bind root, so root's processes are counted here."""
    if os.getuid() != 0:
        return False
    living = sum(state not in "ZX" for state in descendants().values())
    return living > int(order["processes"])


def watch(program: int, order: dict[str, Any]) -> dict[str, Any]:
    """Wait until the program ends, is to be ended, or has too many processes."""
    while True:
        caught = signal.sigtimedwait(WATCHED, POLL_SECONDS)
        if caught is not None and caught.si_signo == signal.SIGTERM:
            return {"exit_code": -signal.SIGKILL, "killed_by": "signal"}
        if report := reap(program, order):
            return report
        if too_many(order):
            return {"exit_code": -signal.SIGKILL, "killed_by": "processes"}


def main() -> None:
    order = json.loads(sys.argv[1])
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
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
