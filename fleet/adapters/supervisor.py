"""Runs the processes of a Procfile side by side with honcho, and stops them in order.

Three things differ from honcho's own manager. Workers stop before what they work with (the
model and the broker), so that a task that is still running can end or be handed back. A
stop reaches a worker itself, not the children that run its tasks. And no process outlives
this one, however it ends.
"""

from __future__ import annotations

import ctypes
import os
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

STOP_LAST = ("model", "broker")
PATIENCE_SECONDS = 5.0
LAST_PATIENCE_SECONDS = 3.0
POLL_SECONDS = 0.05

PR_SET_PDEATHSIG = 1
ASKED_TO_STOP = tuple(known["rc"] for known in SIGNALS.values())


class Supervisor(Manager):  # type: ignore[misc]
    """honcho's manager with an orderly end. Call `loop` once, from the main thread."""

    def __init__(self) -> None:
        super().__init__(Printer(sys.stdout))
        self._terminating: bool = False
        self._process_ctor = _OwnedProcess

    @property
    def was_asked_to_stop(self) -> bool:
        """Whether the end came by a signal to this process, not by the end of another."""
        return self.returncode in ASKED_TO_STOP

    def ended(self) -> list[str]:
        """The processes that have ended, in the order in which they were added."""
        return [name for name, found in self._processes.items() if "returncode" in found]

    def terminate(self) -> None:
        """Begin the end; `loop` returns when it is done. Later calls change nothing."""
        if not self._terminating:
            self._terminating = True
            Thread(target=self._wind_down, daemon=True).start()

    def kill(self) -> None:
        """Do nothing: honcho calls this five seconds on, but the end has its own deadlines."""

    def _wind_down(self) -> None:
        last = [name for name in self._processes if name.split(".")[0] in STOP_LAST]
        first = [name for name in self._processes if name not in last]
        self._stop(first, PATIENCE_SECONDS)
        self._stop(last, LAST_PATIENCE_SECONDS)

    def _stop(self, names: list[str], patience: float) -> None:
        self._ask_to_stop(self._running(names))
        deadline = time.monotonic() + patience
        while self._running(names) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for name in self._running(names):
            self._send(name, os.killpg, signal.SIGKILL)

    def _running(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if "returncode" not in self._processes[name]]

    def _ask_to_stop(self, names: Iterable[str]) -> None:
        for name in names:
            # Without `exec` a shell stands in front, and all behind it have to be told too.
            alone = self._processes[name]["obj"].cmd.startswith("exec ")
            self._send(name, os.kill if alone else os.killpg, signal.SIGTERM)

    def _send(self, name: str, send: Callable[[int, int], None], number: signal.Signals) -> None:
        pid = self._processes[name].get("pid")
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


def end_with_parent(number: signal.Signals) -> None:
    """Have Linux send this process a signal when its parent dies, even by SIGKILL.

    Call it in the child, before it becomes another program; it lasts through that.
    Other systems know nothing like it: there, what a killed `fleet up` leaves behind goes on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number))
