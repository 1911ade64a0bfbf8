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
import errno
import json
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38  # a setuid program gains nothing, and can be killed
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

# Words of classic BPF: load a word of the call's description; compare it, skipping so many
# lines if it holds and so many if not; return an answer. The description holds the call's
# number at 0, the architecture at 4, the low half of the first argument at 16.
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
CLONE3, CLONE_THREAD = 435, 0x00010000
FOREIGN_CALLS = 0x40000000  # where the numbers of a second calling convention begin
# By machine: its name for seccomp, the call clone, and the calls that only make processes.
CALLS = {"x86_64": (0xC000003E, 56, (57, 58)), "aarch64": (0xC00000B7, 220, ())}

WATCHED = (signal.SIGCHLD, signal.SIGTERM)


def prctl(option: int, value: int, pointer: int = 0) -> None:
    """The Linux call `prctl`. Raises `OSError` where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    if libc.prctl(option, value, pointer, 0, 0) != 0:
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
    """What the kernel compares with RLIMIT_NPROC: all threads of the user, this one too."""
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
    others = threads_of_this_user() - 1
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


def forbid_processes() -> None:
    """Let the kernel refuse every new process, but not threads, to this one from now on.

    RLIMIT_NPROC does not bind root. A classic BPF program looks at each system call instead:
    see seccomp(2). `clone3` keeps its flags where no filter can see them, so it is said not to
    exist, and the C library falls back to `clone`.
    """
    architecture, clone, forks = CALLS[os.uname().machine]
    checks = [(EQUAL, call, refuse(errno.EPERM)) for call in forks]
    checks.append((EQUAL, CLONE3, refuse(errno.ENOSYS)))
    checks.append((AT_LEAST, FOREIGN_CALLS, refuse(errno.EPERM)))
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for test, number, answer in checks:
        program += [(test, 0, 1, number), (RETURN, 0, 0, answer)]
    program += [(EQUAL, 1, 0, clone), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 16)]
    program += [(ANY_BIT, 1, 0, CLONE_THREAD), (RETURN, 0, 0, refuse(errno.EPERM))]
    program += [(RETURN, 0, 0, ALLOW)]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    filters = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(program), ctypes.addressof(filters))
    header = ctypes.create_string_buffer(head, len(head))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(header))


def refuse(number: int) -> int:
    return 0x00050000 | number  # SECCOMP_RET_ERRNO


def become_program(order: dict[str, Any]) -> NoReturn:
    """Called in the forked child: never returns to the supervisor's code."""
    try:
        if order["user"] is not None:
            change_user(order["user"])
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user would undo it
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(order["folder"])
        set_limits(order)
        if os.getuid() == 0:
            forbid_processes()
        os.execve(order["arguments"][0], order["arguments"], order["environment"])  # noqa: S606
    except (OSError, KeyError) as error:
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


def watch(program: int, order: dict[str, Any]) -> dict[str, Any]:
    """Wait until the program ends, or is to be ended."""
    while signal.sigwait(WATCHED) != signal.SIGTERM:
        if report := reap(program, order):
            return report
    return {"exit_code": -signal.SIGKILL, "killed_by": "signal"}


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
