"""One run of one program in the sandbox."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from fleet.agent import to_the_end
from fleet.errors import InvalidRequest
from fleet.sandbox import cgroups
from fleet.sandbox.bubblewrap import INSIDE, namespace_arguments
from fleet.sandbox.capture import BoundedText, keep
from fleet.sandbox.isolation import isolation_for
from fleet.sandbox.landlock import confined
from fleet.sandbox.limits import Isolation, Mode, SandboxLimits, SandboxResult
from fleet.sandbox.removal import remove_folder
from fleet.sandbox.users import host_user

PROGRAM = "program.py"
# How long a supervisor may take to kill its processes, and the pipes to drain afterwards.
GRACE_SECONDS = 2.0
# Threads of the library that confines a program, in a separate process.
HELPERS = 32
SUPERVISOR = Path(__file__).with_name("supervisor.py")


async def run_python(
    program: str,
    *,
    files: Mapping[str, str] | None = None,
    stdin: str = "",
    limits: SandboxLimits | None = None,
    mode: Mode = "auto",
    channel: StdioChannel | None = None,
) -> SandboxResult:
    """Run a Python program in a fresh folder that also has `files` (plain name: text).

    The interpreter is the caller's own, isolated (`-I`), with its installed packages and without
    its environment. If the call is cancelled, every process of the run is killed before the
    cancellation continues.

    With a `channel`, its ends are the program's standard input and output: `stdin` is not sent, and
    the result's `stdout` is empty. The run owns the channel and closes it.

    `auto` uses bubblewrap, or Landlock if bubblewrap does not work. The result says which. Mode
    `rlimits` limits resources and hides the environment, but the program runs as the worker's user
    (as a temporary user if that is root): it can read files and use the network. `docs/sandbox.md`
    says what each isolation prevents.

    Raises `NotAllowed` if the isolation does not work on this machine.
    """
    limits = limits or SandboxLimits()
    isolation = await asyncio.to_thread(isolation_for, mode)
    with temporary_folder() as folder:
        contents = {**(files or {}), PROGRAM: program}
        write_files(folder, contents)
        user = None if isolation == "bubblewrap" else host_user()
        if user is not None:
            os.chown(folder, user, user)
        prefix = []
        if isolation == "bubblewrap":
            folder.chmod(0o755)
            prefix = namespace_arguments(contents, folder, limits.file_bytes)
        return await _run(SandboxRun(prefix, folder, user, limits, isolation, channel), stdin)


class StdioChannel:
    """The standard input and output of a run that talks with another run."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self._open = True

    def close(self) -> None:
        """Close both ends here. Further calls do nothing."""
        if self._open:
            self._open = False
            os.close(self.reading)
            os.close(self.writing)


@contextmanager
def channels() -> Iterator[tuple[StdioChannel, StdioChannel]]:
    """Two channels, connected to each other."""
    one, other = os.pipe(), os.pipe()
    pair = StdioChannel(one[0], other[1]), StdioChannel(other[0], one[1])
    try:
        yield pair
    finally:
        for channel in pair:
            channel.close()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="fleet-sandbox-"))
    try:
        yield folder
    finally:
        remove_folder(folder)


def write_files(folder: Path, contents: Mapping[str, str]) -> None:
    for name, text in contents.items():
        if Path(name).name != name or name in ("", ".."):
            raise InvalidRequest(f"{name!r} is no plain file name; leave out its folders")
        (folder / name).write_text(text, encoding="utf-8", newline="")


@dataclass(frozen=True, slots=True)
class SandboxRun:
    """One run: the prefix of its command, its folder, its user, its limits and its isolation."""

    prefix: list[str]
    folder: Path
    user: int | None
    limits: SandboxLimits
    isolation: Isolation
    channel: StdioChannel | None = None

    @property
    def helpers(self) -> int:
        return HELPERS if self.isolation == "landlock" else 0


def supervised_command(job: SandboxRun, status: int) -> list[str]:
    inside = INSIDE if job.prefix else str(job.folder)
    arguments = [sys.executable, "-I", "-B", "-X", "utf8", PROGRAM]
    if job.isolation == "landlock":
        arguments = confined(arguments, job.folder, job.limits, [inside])
    order = {
        **asdict(job.limits),
        "user": job.user,
        "folder": inside,
        "environment": {"TMPDIR": inside},
        "arguments": arguments,
        "own_processes": bool(job.prefix),
        "helpers": job.helpers,
        "status_descriptor": status,
    }
    supervisor = SUPERVISOR.read_text(encoding="utf-8")
    return [*job.prefix, sys.executable, "-I", "-c", supervisor, json.dumps(order)]


async def _run(job: SandboxRun, stdin: str) -> SandboxResult:
    group = cgroups.group_of(job.limits, job.helpers)
    if group is None:
        return await _run_in(None, job, stdin)
    try:
        ended = await _run_in(group, job, stdin)
        over = ended.killed_by == "signal" and group.ran_out_of_memory()
        return replace(ended, killed_by="memory") if over else ended
    finally:
        await to_the_end(group.end())


async def _run_in(group: cgroups.Group | None, job: SandboxRun, stdin: str) -> SandboxResult:
    started, limits = time.monotonic(), job.limits
    outputs = BoundedText(limits.output_bytes), BoundedText(limits.output_bytes)
    with status_pipe() as (reading, writing):
        command = supervised_command(job, writing)
        process = await asyncio.create_subprocess_exec(
            *(group.entered(command) if group else command),
            stdin=job.channel.reading if job.channel else asyncio.subprocess.PIPE,
            stdout=job.channel.writing if job.channel else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd=job.folder,
            start_new_session=True,
            pass_fds=(writing,),
        )
        if job.channel:
            job.channel.close()
        try:
            in_time = await _converse(process, stdin, outputs, limits.wall_seconds)
        finally:
            await to_the_end(_end(process, bare=not job.prefix))
        report = read_status(reading, process.returncode)
    return SandboxResult(
        exit_code=report["exit_code"],
        stdout=outputs[0].text(),
        stderr=outputs[1].text(),
        killed_by=report["killed_by"] if in_time else "time",
        isolation=job.isolation,
        seconds=time.monotonic() - started,
    )


async def _converse(
    process: asyncio.subprocess.Process,
    stdin: str,
    outputs: tuple[BoundedText, BoundedText],
    wall_seconds: float,
) -> bool:
    """Feed and read the program until it ends. Returns False if its time is up first."""
    streams = zip((process.stdout, process.stderr), outputs, strict=True)
    readers = asyncio.gather(*(keep(stream, kept) for stream, kept in streams if stream))
    try:
        async with asyncio.timeout(wall_seconds):
            if process.stdin:
                await _feed(process.stdin, stdin)
            await process.wait()
        # Drain the pipes; an escaped process may keep them open for ever.
        with suppress(TimeoutError):
            await asyncio.wait_for(readers, GRACE_SECONDS)
    except TimeoutError:
        return False
    finally:
        readers.cancel()
        with suppress(asyncio.CancelledError):
            await readers
    return True


async def _feed(pipe: asyncio.StreamWriter, text: str) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read what it is given
        pipe.write(text.encode())
        await pipe.drain()
    pipe.close()


async def _end(process: asyncio.subprocess.Process, *, bare: bool) -> None:
    """Kill every process of the run and wait for the end.

    With bubblewrap the kernel kills the whole process namespace with its first process. Without it,
    the supervisor kills everything below it, because a process may have left the group. The group
    is killed in any case.
    """
    if process.returncode is None and bare:
        with suppress(ProcessLookupError, TimeoutError):
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    # A process that dies a moment later may keep the pipes open; nobody reads them any more.
    process._transport.close()  # type: ignore[attr-defined]


@contextmanager
def status_pipe() -> Iterator[tuple[int, int]]:
    """A pipe on which only the supervisor reports how the program ended."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read_status(reading: int, returncode: int | None) -> dict[str, Any]:
    """The supervisor's report, or the exit status if the supervisor itself was killed."""
    try:
        report: dict[str, Any] = json.loads(os.read(reading, 4096))
    except (BlockingIOError, ValueError):
        return {"exit_code": returncode if returncode else -signal.SIGKILL, "killed_by": "signal"}
    return report
