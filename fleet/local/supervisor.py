"""Runs the processes of a Procfile side by side, with honcho's processes and printer.

Four things differ from honcho's own manager. A process that dies is started again, and only one
that dies again and again ends the rest. Workers stop before what they work with (the model and the
broker), so that a task that is still running can end or be given back. A stop reaches a worker
itself, not the children that run its tasks. And no process outlives this one, however it ends.
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
from fleet.text.plain_text import plain_lines

STOP_LAST = ("model", "broker")
NO_WORKERS = (*STOP_LAST, "beat", "flower")
LAST_PATIENCE_SECONDS = 3.0
# What a worker may take from the end of its last task to its own.
LEAVE_SECONDS = 5.0
POLL_SECONDS = 0.05
TELL_FIRST_SECONDS = 1.0
TELL_SECONDS = 5.0

PR_SET_PDEATHSIG = 1


class Supervisor(Manager):  # type: ignore[misc]
    """honcho's manager with restarts and an orderly end. Call `loop` once, from the main thread.

    Whoever has to stop has `patience_seconds` for it; then it is killed, unless its process group
    is among those that are `finishing`: workers that end plain tasks of Celery.
    """

    def __init__(
        self,
        patience_seconds: float,
        policy: RestartPolicy | None = None,
        finishing: Callable[[], set[int]] = set,
    ) -> None:
        super().__init__(Printer(sys.stdout))
        self.patience_seconds = patience_seconds
        self.finishing = finishing
        self.policy = policy or RestartPolicy()
        #: The process that died again and again, which ended the others.
        self.gave_up_on: str | None = None
        self._terminating: bool = False
        self._interrupts = 0
        self._deaths: dict[str, list[float]] = {}
        self._due: dict[str, float] = {}
        self._last_finishing: dict[str, float] = {}
        self._process_ctor = _OwnedProcess

    def loop(self) -> None:
        """Start all processes, show what they print, and return when the last one has ended."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        for name in self._processes:
            self._start_process(name)
        while not (self._terminating and not self._running(self._processes)):
            self._take_event()
            self._start_what_is_due()
        while self._take_event():
            pass

    def terminate(self) -> None:
        """Begin the end; `loop` returns when it is done. Later calls change nothing."""
        if not self._terminating:
            self._terminating = True
            Thread(target=self._wind_down, daemon=True).start()

    def _on_signal(self, number: int, _: object) -> None:
        """A Ctrl-C while it ends gives back what the workers run, the next one kills what is left.
        As with a worker, a further SIGTERM changes nothing."""
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
                self._tell(name, number)

    # Starting, and starting again

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
        if self._terminating:
            return
        now = time.monotonic()
        deaths = self._deaths.setdefault(name, [])
        deaths.append(now)
        wait = wait_before_restart(deaths, now, self.policy)
        if wait is None:
            self._system_print(f"{name} ended by itself again and again; stopping the fleet\n")
            self.gave_up_on, self.returncode = name, status
            self.terminate()
        else:
            self._system_print(f"{name} ended by itself; starting it again in {wait:g} s\n")
            self._due[name] = now + wait

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            if not self._terminating:
                self._start_process(name)

    # The end

    def _wind_down(self) -> None:
        last = [name for name in self._processes if name.split(".")[0] in STOP_LAST]
        first = [name for name in self._processes if name not in last]
        self._stop(first, self.patience_seconds)
        self._stop(last, LAST_PATIENCE_SECONDS)

    def _stop(self, names: list[str], patience: float) -> None:
        told: set[str] = set()
        began = time.monotonic()
        said = began - TELL_SECONDS + TELL_FIRST_SECONDS
        while left := self._running(names):
            is_over = time.monotonic() >= began + patience
            if is_over:
                left = self._kill_but_those_that_finish(left)
                if not left:
                    return
            for name in left:
                # One that is just being started has no number yet.
                if name not in told and "pid" in self._processes[name]:
                    told.add(name)
                    self._tell(name, signal.SIGTERM)
            if time.monotonic() > said + TELL_SECONDS:
                said = time.monotonic()
                self._say_who_is_awaited(left, began + patience - said)
            time.sleep(POLL_SECONDS)

    def _kill_but_those_that_finish(self, names: list[str]) -> list[str]:
        """Kill the others, whose time is over, and return those that are left."""
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

    def _say_who_is_awaited(self, names: list[str], seconds: float) -> None:
        who = ", ".join(names)
        if seconds > 0:
            self._system_print(
                f"waiting for {who} to end what they run, for {seconds:.0f} s at most; "
                "Ctrl-C gives it back\n"
            )
        else:
            self._system_print(
                f"waiting for {who}: past their grace they finish plain Celery tasks, which nobody "
                "could give back; Ctrl-C cuts these\n"
            )

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if "returncode" not in self._processes[name]]

    def _tell(self, name: str, number: signal.Signals) -> None:
        # Without `exec` a shell stands in front, and all behind it have to be told too.
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
            self._system_print(f"{name} has ended already\n")


class _OwnedProcess(Process):  # type: ignore[misc]
    """A child, and honcho's reader of its output, that both end when their parent does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        ending = partial(end_with_parent, signal.SIGTERM)
        self._child_ctor = partial(Popen, preexec_fn=ending)

    def run(self, *args: Any, **kwargs: Any) -> None:
        # The reader ignores SIGTERM, so that it can pass on a child's last words.
        end_with_parent(signal.SIGKILL)
        super().run(*args, **kwargs)


def _plain(line: bytes | str) -> str:
    """What a child printed, without what would act on the terminal."""
    return plain_lines(line.decode(errors="replace") if isinstance(line, bytes) else line)


def end_with_parent(number: signal.Signals) -> None:
    """Have Linux send this process a signal when its parent dies, even by SIGKILL.

    Call it in the child, before it becomes another program; it lasts through that.
    Other systems know nothing like it: there, what a killed `fleet up` leaves behind goes on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
