"""Runs the processes of a Procfile side by side, with honcho's processes and printer.

Five things differ from honcho's own manager:

- A process that dies is restarted. Only one that dies repeatedly stops the others.
- Workers may be added and ended while the others run.
- Workers stop before the model and the broker, so that a running task can finish or be requeued.
- A stop signal reaches the worker itself, not the child processes that run its tasks.
- No process outlives this one, however it ends.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from threading import Thread
from typing import Any

from honcho.manager import SIGNALS, Manager
from honcho.printer import Printer
from honcho.process import Popen, Process

from fleet.local.rules import RestartPolicy, wait_before_restart
from fleet.text import plain_lines

STOP_LAST = ("model", "broker")
NO_WORKERS = (*STOP_LAST, "beat", "flower", "ops")
LAST_TIMEOUT_SECONDS = 3.0
# The time that a worker may take to exit after its last task.
LEAVE_SECONDS = 5.0
POLL_SECONDS = 0.05
FIRST_REPORT_SECONDS = 1.0
REPORT_SECONDS = 5.0

PR_SET_PDEATHSIG = 1


class Supervisor(Manager):  # type: ignore[misc]
    """honcho's manager with restarts and an orderly shutdown. Call `loop` once, in the main thread.

    A process that has not stopped after `timeout_seconds` is killed. `finishing` returns the
    process groups that are spared: workers that finish plain Celery tasks.
    """

    def __init__(
        self,
        timeout_seconds: float,
        policy: RestartPolicy | None = None,
        finishing: Callable[[], set[int]] = set,
    ) -> None:
        super().__init__(Printer(sys.stdout))
        self.timeout_seconds = timeout_seconds
        self.finishing = finishing
        self.policy = policy or RestartPolicy()
        #: The process that died repeatedly, which stopped the others.
        self.gave_up_on: str | None = None
        self._terminating: bool = False
        self._interrupts = 0
        self._deaths: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}
        self._last_finishing: dict[str, float] = {}
        #: What other threads have asked for, and the workers that are to end.
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ending: set[str] = set()
        self._process_ctor = _OwnedProcess

    def loop(self) -> None:
        """Start all processes, print their output, and return when the last one has ended."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        for name in self._processes:
            self._start_process(name)
        while not (self._terminating and not self._running(self._processes)):
            self._take_event()
            self._do_asked()
            self._restart_due()
        while self._take_event():
            pass

    def terminate(self) -> None:
        """Begin the shutdown. `loop` returns when it is complete. Later calls have no effect."""
        if not self._terminating:
            self._terminating = True
            Thread(target=self._shut_down, daemon=True).start()

    # Workers that come and go, asked for by another thread

    def workers(self) -> dict[str, int | None]:
        """The processes that run, start or are about to be restarted, with their process ids."""
        return {
            name: found.get("pid") if "returncode" not in found else None
            for name, found in list(self._processes.items())
            if "returncode" not in found or name in self._due
        }

    def add_worker(self, name: str, command: str, env: dict[str, str]) -> None:
        """Add and start a process, soon. One of this name that has ended is started again."""
        self._asked.put(partial(self._add, name, command, env))

    def end_worker(self, name: str) -> None:
        """End a process by SIGTERM, soon, and do not restart it."""
        self._asked.put(partial(self._end, name))

    def _do_asked(self) -> None:
        while not self._asked.empty():
            self._asked.get()()

    def _add(self, name: str, command: str, env: dict[str, str]) -> None:
        if self._terminating or name in self.workers():
            return
        if name not in self._processes:
            self.add_process(name, command, env=env)
        self._start_process(name)

    def _end(self, name: str) -> None:
        if self._terminating or name not in self.workers():
            return
        self._due.pop(name, None)
        if "returncode" not in self._processes[name]:
            self._ending.add(name)
            self._signal(name, signal.SIGTERM)

    def _on_signal(self, number: int, _: object) -> None:
        """Shut down. During the shutdown, Ctrl-C requeues the running tasks, and the next Ctrl-C
        kills the remaining processes. As in a worker, a second SIGTERM has no effect."""
        self._system_print(f"{SIGNALS[number]['name']} received\n")
        if not self._terminating:
            self.returncode = SIGNALS[number]["rc"]
            self.terminate()
        elif number == signal.SIGINT:
            self._interrupts += 1
            hurry = signal.SIGQUIT if self._interrupts == 1 else signal.SIGKILL
            Thread(target=self._hurry, args=(hurry,), daemon=True).start()

    def _hurry(self, number: signal.Signals) -> None:
        for name in self._running(self._processes):
            if number == signal.SIGKILL:
                self._send(name, os.killpg, number)
            elif name.split(".")[0] not in NO_WORKERS:
                self._signal(name, number)

    # Start and restart

    def _start_process(self, name: str) -> None:
        found = self._processes[name]
        found.pop("returncode", None)
        found.pop("pid", None)
        arguments = (self.events, True)
        found["process"] = multiprocessing.Process(
            name=name, target=found["obj"].run, args=arguments
        )
        found["process"].start()

    def _take_event(self) -> bool:
        try:
            event = self.events.get(timeout=0.1)
        except queue.Empty:
            return False
        if event.type == "line":
            self._printer.write(event._replace(data=_plain(event.data)))
        elif event.type == "start":
            self._processes[event.name]["pid"] = event.data["pid"]
            self._system_print(f"{event.name} started (pid={event.data['pid']})\n")
        elif event.type == "stop":
            self._note_end(event.name, event.data["returncode"])
        return True

    def _note_end(self, name: str, status: int) -> None:
        self._processes[name]["returncode"] = status
        self._system_print(f"{name} stopped (rc={status})\n")
        if self._terminating or name in self._ending:
            self._ending.discard(name)
            return
        now = time.monotonic()
        deaths = self._deaths.setdefault(name, [])
        deaths.append(now)
        wait = wait_before_restart(deaths, now, self.policy)
        if wait is None:
            self._system_print(f"{name} exited repeatedly; stopping the fleet\n")
            self.gave_up_on, self.returncode = name, status
            self.terminate()
        else:
            self._system_print(f"{name} exited; restarting it in {wait:g} s\n")
            self._due[name] = now + wait

    def _restart_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            if not self._terminating:
                self._start_process(name)

    # Shutdown

    def _shut_down(self) -> None:
        last = [name for name in self._processes if name.split(".")[0] in STOP_LAST]
        first = [name for name in self._processes if name not in last]
        self._stop(first, self.timeout_seconds)
        self._stop(last, LAST_TIMEOUT_SECONDS)

    def _stop(self, names: list[str], timeout: float) -> None:
        signalled: set[str] = set()
        began = time.monotonic()
        reported = began - REPORT_SECONDS + FIRST_REPORT_SECONDS
        while left := self._running(names):
            if time.monotonic() >= began + timeout:
                left = self._kill_unless_finishing(left)
                if not left:
                    return
            for name in left:
                # A process that is just starting has no process id yet.
                if name not in signalled and "pid" in self._processes[name]:
                    signalled.add(name)
                    self._signal(name, signal.SIGTERM)
            if time.monotonic() > reported + REPORT_SECONDS:
                reported = time.monotonic()
                self._report_awaited(left, began + timeout - reported)
            time.sleep(POLL_SECONDS)

    def _kill_unless_finishing(self, names: list[str]) -> list[str]:
        """Kill the processes that are not finishing plain tasks. Returns the others."""
        groups, now = self.finishing(), time.monotonic()
        for name in names:
            if self._processes[name].get("pid") in groups:
                self._last_finishing[name] = now
        left = [name for name in names if now < self._spared_until(name)]
        for name in names:
            if name not in left:
                self._send(name, os.killpg, signal.SIGKILL)
        return left

    def _spared_until(self, name: str) -> float:
        return self._last_finishing.get(name, -math.inf) + LEAVE_SECONDS

    def _report_awaited(self, names: list[str], seconds: float) -> None:
        awaited = ", ".join(names)
        if seconds > 0:
            self._system_print(
                f"waiting at most {seconds:.0f} s for {awaited} to finish their tasks; Ctrl-C "
                "requeues the tasks\n"
            )
        else:
            self._system_print(
                f"waiting for {awaited}: past their grace period they finish plain Celery tasks, "
                "which cannot be requeued; Ctrl-C stops these tasks\n"
            )

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if "returncode" not in self._processes[name]]

    def _signal(self, name: str, number: signal.Signals) -> None:
        # Without `exec` there is a shell in front: the whole process group needs the signal.
        alone = self._processes[name]["obj"].cmd.startswith("exec ")
        self._send(name, os.kill if alone else os.killpg, number)

    def _send(self, name: str, send: Callable[[int, int], None], number: signal.Signals) -> None:
        pid = self._processes[name].get("pid")
        if pid is None:
            return
        self._system_print(f"sending {number.name} to {name} (pid {pid})\n")
        try:
            send(pid, number)
        except ProcessLookupError:
            self._system_print(f"{name} has already ended\n")


class _OwnedProcess(Process):  # type: ignore[misc]
    """A child process, and honcho's reader of its output. Both end when their parent dies."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ending = partial(end_with_parent, signal.SIGTERM)
        self._child_ctor = partial(Popen, preexec_fn=ending)

    def run(self, *args: Any, **kwargs: Any) -> None:
        # The reader ignores SIGTERM, so that it can pass on the last output of the child.
        end_with_parent(signal.SIGKILL)
        super().run(*args, **kwargs)


def _plain(line: bytes | str) -> str:
    """A child's output without control characters."""
    return plain_lines(line.decode(errors="replace") if isinstance(line, bytes) else line)


def end_with_parent(number: signal.Signals) -> None:
    """Make Linux send this process a signal when its parent dies, even by SIGKILL.

    Call it in the child before `exec`, which keeps the setting. Other systems have no such setting:
    there, the processes of a killed `fleet up` continue.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
