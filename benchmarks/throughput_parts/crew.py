"""The processes of one side: its workers and its sender, each in a group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from throughput_parts.sides import Shape, Side, environment
from throughput_parts.tallies import Tallies

LOOK_SECONDS = 0.001
PATIENCE_SECONDS = 60.0
"""Without a task that ends, or a process that starts."""


class Stuck(Exception):
    """Tasks did not end, or a process did; says what is known of it."""


class Crew:
    """A context that starts a side's processes, and stops them however it ends."""

    def __init__(self, side: Side, shape: Shape, folder: Path, url: str) -> None:
        self.side = side
        self.shape = shape
        self.sent = 0
        self._folder = folder
        self._log = folder / f"{side.name.replace(' ', '-')}.log"
        self.tallies = Tallies(folder / f"{side.name} tallies")
        self._environment = environment(side, shape, folder, url)
        self._environment["IDLER_TALLY"] = str(self.tallies.folder)
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._workers = [self._start(arguments) for arguments in self.side.workers]
        self._sender = self._start(
            self.side.sender, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Nothing of theirs is wanted any more: no need to wait for an orderly end.
        for process in (self._sender, *self._workers):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def await_all(self) -> None:
        """Wait until every worker process has run a task. Raises `Stuck`."""
        self._hear("ready")
        started = time.monotonic()
        while len(self.tallies.by_process()) < self.shape.processes:
            self.run(self.shape.slots, 0.05)
            if time.monotonic() > started + PATIENCE_SECONDS:
                raise Stuck(f"{self.side.name}: not every process takes tasks; {self._said()}")

    def run(self, count: int, seconds: float) -> float:
        """Send tasks of so many seconds each; seconds from then until the last has ended."""
        goal = self.tallies.total() + count
        start = time.perf_counter()
        self._send(count, seconds)
        self._await(lambda: self.tallies.total() >= goal)
        took = time.perf_counter() - start
        self._hear("sent")
        return took

    def drain(self, count: int, seconds: float) -> float:
        """The same, but for the sending: the workers stand still until all have been sent."""
        goal = self.tallies.total() + count
        with self._paused():
            self._send(count, seconds)
            self._hear("sent")
        start = time.perf_counter()
        self._await(lambda: self.tallies.total() >= goal)
        return time.perf_counter() - start

    def cpu_seconds(self) -> float:
        """CPU time that the worker processes have used so far."""
        used = 0.0
        for worker in self._workers:
            process = psutil.Process(worker.pid)
            times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
            used += sum(each.user + each.system for each in times)
        return used

    def _start(self, arguments: tuple[str, ...], **options: object) -> subprocess.Popen[str]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self.side.python, *arguments],
                **{
                    "cwd": self._folder,
                    "env": self._environment,
                    "stdout": log,
                    "stderr": log,
                    # Ctrl-C is for the benchmark, which then stops them.
                    "start_new_session": True,
                    **options,
                },
            )

    def _send(self, count: int, seconds: float) -> None:
        self.sent += count
        assert self._sender.stdin is not None
        try:
            self._sender.stdin.write(f"{count} {seconds!r}\n")
            self._sender.stdin.flush()
        except BrokenPipeError:
            raise Stuck(self._fallen()) from None

    def _hear(self, word: str) -> None:
        assert self._sender.stdout is not None
        said = self._sender.stdout.readline().strip()
        if said != word:
            raise Stuck(f"{self.side.name}: its sender ended; {self._said()}")

    @contextmanager
    def _paused(self) -> Iterator[None]:
        for worker in self._workers:
            os.killpg(worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in self._workers:
                os.killpg(worker.pid, signal.SIGCONT)

    def _await(self, condition: Callable[[], bool]) -> None:
        ended, give_up = -1, 0.0
        while not condition():
            if self.tallies.total() != ended:
                ended, give_up = self.tallies.total(), time.monotonic() + PATIENCE_SECONDS
            if time.monotonic() > give_up or self._fallen():
                raise Stuck(self._fallen() or f"{self.side.name}: no task ends; {self._said()}")
            time.sleep(LOOK_SECONDS)

    def _fallen(self) -> str:
        """What there is to say of a process that has ended by itself; empty where none has."""
        for process in (self._sender, *self._workers):
            if process.poll() is not None:
                return f"{self.side.name}: a process ended, {process.returncode}; {self._said()}"
        return ""

    def _said(self) -> str:
        return f"its log ends:\n{self._log.read_text(errors='replace')[-2000:]}"
