"""One event loop for each worker process, in a thread of its own.

The loop is made on first use, which is after the fork: a loop does not survive a fork. All tasks
run in one loop, so that they share the pooled connections of the model clients.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that runs until the process ends.

    It does what `asyncio.run_coroutine_threadsafe` does, at half the cost: coroutines that are
    submitted together wake the loop once, and a result passes through one future instead of two.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._new: deque[Callable[[], None]] = deque()
        self._is_woken = False
        threading.Thread(target=self._run, name="agent-loop", daemon=True).start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine; cancelling the future cancels it at its next await."""
        future: Future[T] = Future()
        self._new.append(partial(self._begin, work, future, copy_context()))
        if not self._is_woken:
            self._is_woken = True
            self.loop.call_soon_threadsafe(self._begin_new)
        return future

    def _begin_new(self) -> None:
        # The flag first: a coroutine that is submitted from here on wakes the loop again, or is
        # begun now.
        self._is_woken = False
        while self._new:
            self._new.popleft()()

    def _begin(self, work: Coroutine[Any, Any, T], future: Future[T], context: Context) -> None:
        task = self.loop.create_task(work, context=context)
        task.add_done_callback(partial(_pass_on, future))
        future.add_done_callback(partial(self._cancel, task))

    def _cancel(self, task: asyncio.Task[T], future: Future[T]) -> None:
        if future.cancelled():
            self.loop.call_soon_threadsafe(task.cancel)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def _pass_on(future: Future[T], task: asyncio.Task[T]) -> None:
    if task.cancelled():
        future.cancel()
    error = None if task.cancelled() else task.exception()
    if not future.set_running_or_notify_cancel():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
