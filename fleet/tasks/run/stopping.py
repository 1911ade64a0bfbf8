"""Stops a run and waits until it has really ended.

    stop requested    by the lease keeper, by the time limit, or by an error raised in the thread;
                      the asyncio task is cancelled, and again every second until it has ended
    ended             the result is the outcome, the error or the cancellation of the asyncio task
    does not end      the log names the line where it hangs, and again after twice as long; slot and
                      lease stay taken, since the run may still act. The end of the worker process
                      kills it; a prefork child is killed at its hard time limit

One cancellation is not enough: the agent or a library may swallow it. Before Python 3.12
`asyncio.wait_for` does so if the awaited object ends in the same moment. Clean-up that takes longer
than a second has to survive further cancellations: use `fleet.agent.to_the_end`.
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

from fleet.telemetry.logger import get_logger

CANCEL_SECONDS = 1.0
"""Time between two cancellations of the same run."""

FIRST_LOGGED = 4
"""Cancellations without effect before the first line in the log; the next line follows after twice
as many, and so on."""

T = TypeVar("T")

Submit = Callable[[Coroutine[Any, Any, T]], "Future[T]"]

log = get_logger(__name__)


class Stopped(Exception):
    """The run was cancelled, and has ended."""


class StoppableRun(Generic[T]):
    """One run of a task. `stop` may be called from any thread, `result` from the run's own."""

    def __init__(self, task_id: str, limit_seconds: float) -> None:
        self.task_id = task_id
        self.limit_seconds = limit_seconds
        #: Whether it was stopped by its time limit.
        self.timed_out = False
        self.stop_requested = False
        self._began: float | None = None
        self._changed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        """Start the time limit."""
        self._began = time.monotonic()

    def stop(self) -> None:
        """Request the end of the run; `result` returns when it has ended."""
        self.stop_requested = True
        self._changed.set()

    def result(self, work: Coroutine[Any, Any, T], submit: Submit[T]) -> T:
        """Run `work` and wait for its end; its result. Raises its error, or `Stopped` if it ended
        by a cancellation.

        An error raised in this thread meanwhile stops the run, and is raised after the run's end.
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
        if self.stop_requested:
            work.close()
            raise asyncio.CancelledError
        return await work

    def _wait(self, future: Future[T]) -> None:
        """Wait until the run has ended, or a stop is requested."""
        while not future.done() and not self.stop_requested:
            self._changed.wait(self._seconds_left())
            self._changed.clear()
            if self._seconds_left() <= 0 and not future.done():
                self.timed_out = True
                self.stop()

    def _seconds_left(self) -> float:
        """The rest of the time limit; all of it before `begin`."""
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
        # Work that has not begun checks `stop_requested` itself.
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # the loop is closed: its process ends
                self._loop.call_soon_threadsafe(self._task.cancel)

    def _where(self) -> str:
        """Where the run hangs: file, line and function, without values."""
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
        """Whether the run blocks the event loop right now, and all other runs with it."""
        return self._loop is not None and asyncio.current_task(self._loop) is self._task
