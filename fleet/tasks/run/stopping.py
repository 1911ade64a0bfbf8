"""One run as its thread sees it: it waits until the run has really ended, whatever is done to it.

    told to stop      by its lease's keeper, by its time limit, or by an error raised in the thread;
                      its task is cancelled, and again every second until it has ended
    ends all the same with the outcome, the error or the cancellation that the task ended with
    does not end      the log says so, with where it hangs, and again after twice as long; the slot
                      and the lease stay taken, for it may still do something. The end of the worker
                      kills it with the process; a prefork child is killed over its hard limit

One cancellation is not enough. An agent may swallow it, and so may a library that it waits for:
before Python 3.12 `asyncio.wait_for` does where what it waits for ends in the same moment. Cleaning
up that takes longer than a second has to go on when it is cancelled again, as
`fleet.agent.to_the_end` does.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

import structlog

CANCEL_SECONDS = 1.0
"""A run that was cancelled is cancelled again after this."""

FIRST_LOGGED = 4
"""So many cancellations that changed nothing are worth a line; then twice as many, and so on."""

T = TypeVar("T")

Submit = Callable[[Coroutine[Any, Any, T]], "Future[T]"]

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The run was told to stop, and has."""


class StoppableRun(Generic[T]):
    """One run of a task. `stop` may be called from any thread, `result` from the run's own."""

    def __init__(self, task_id: str, limit_seconds: float) -> None:
        self.task_id = task_id
        self.limit_seconds = limit_seconds
        #: Whether it was stopped since it ran over its time limit.
        self.timed_out = False
        self.told_to_stop = False
        self._began: float | None = None
        self._changed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """The time limit counts from now on."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """Have the run end. It goes on until it has: see `result`."""
        self.told_to_stop = True
        self._changed.set()

    def result(self, work: Coroutine[Any, Any, T], submit: Submit[T]) -> T:
        """Run the work, and wait until it has ended. Gives or raises what it ended with; `Stopped`
        where it ended by a cancellation.

        An error that is raised in this thread meanwhile stops the run, and is raised when that has
        ended.
        """
        future = submit(self._in_the_loop(work))
        future.add_done_callback(lambda _: self._changed.set())
        raised: Exception | None = None
        while not future.done():
            try:
                self._wait(future)
                self._cancel_until_ended(future)
            except Exception as error:
                raised = raised or error
                self.stop()
        if raised is not None:
            raise raised
        try:
            return future.result()
        except CancelledError:
            raise Stopped("it was cancelled") from None

    async def _in_the_loop(self, work: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        self._loop_thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        if self.told_to_stop:
            work.close()
            raise asyncio.CancelledError
        return await work

    def _wait(self, future: Future[T]) -> None:
        """Wait until the run has ended, or is to."""
        while not future.done() and not self.told_to_stop:
            self._changed.wait(self._seconds_left())
            self._changed.clear()
            if self._seconds_left() <= 0 and not future.done():
                self.timed_out = True
                self.stop()

    def _seconds_left(self) -> float:
        """Of its time limit; all of it while it waits for its turn."""
        began = self._began
        return self.limit_seconds - (0.0 if began is None else time.monotonic() - began)

    def _cancel_until_ended(self, future: Future[T]) -> None:
        began, tries, logged_at = time.monotonic(), 0, FIRST_LOGGED
        while not future.done():
            self._cancel()
            tries += 1
            if tries == logged_at:
                logged_at *= 2
                log.error(
                    "a run does not stop; its slot and lease stay taken until it ends",
                    task=self.task_id,
                    cancelled_times=tries,
                    seconds=round(time.monotonic() - began, 1),
                    where=self._where(),
                )
            self._changed.clear()
            if not future.done():
                self._changed.wait(CANCEL_SECONDS)

    def _cancel(self) -> None:
        # What has not begun yet looks for itself.
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop is closed: its process ends
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _where(self) -> str:
        """Where the run hangs: file, line and function, without any value."""
        frame = None
        awaited: Any = self._task.get_coro() if self._task is not None else None
        while awaited is not None:
            frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", frame)
            awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
        if self._is_running():
            frame = sys._current_frames().get(self._loop_thread, frame)
        if frame is None:
            return "unknown"
        (found,) = traceback.extract_stack(frame, limit=1)
        return f"{found.filename}:{found.lineno} in {found.name}"

    def _is_running(self) -> bool:
        """Whether the run itself has the loop now: it holds up all others too."""
        return self._loop is not None and asyncio.current_task(self._loop) is self._task
