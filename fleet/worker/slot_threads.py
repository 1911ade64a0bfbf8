"""The threads of a worker, in which plain tasks wait for a slot before they begin.

A worker of threads has more threads than slots, see `fleet.worker.slots`. The number of threads
limits a stock worker. Here the slots are the limit; agents take theirs in the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from billiard.einfo import ExceptionInfo

from fleet.tasks.leases.slots import TaskSlots
from fleet.telemetry.logger import get_logger
from fleet.worker.tracing import is_unavailable

log = get_logger(__name__)


class SlotThreads(ThreadPoolExecutor):
    """The executor of a pool of threads. A plain task waits for a slot in its thread."""

    def __init__(self, threads: int, slots: TaskSlots, agent_tasks: Collection[str]) -> None:
        super().__init__(threads)
        self._agent_tasks = agent_tasks
        self._slots = slots
        self._guard = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._is_cancelled = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Run `work(target, arguments, ...)` in a thread. Celery's pool of threads calls this; the
        first of a task's arguments is its name."""
        name = args[1][0] if len(args) > 1 and args[1] else ""
        if name in self._agent_tasks:
            return super().submit(_reporting, work, *args, **options)
        return super().submit(self._in_slot, work, *args, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As in any executor; with `cancel_futures`, tasks that wait for a slot do not begin."""
        with self._guard:
            self._is_cancelled = cancel_futures
            waiting = tuple(self._waiting) if cancel_futures else ()
        for event in waiting:
            event.set()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _in_slot(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._take()
        try:
            return _reporting(work, *args, **options)
        finally:
            self._slots.release()

    def _take(self) -> None:
        """Wait for a slot. Raises `CancelledError` if the worker shuts down meanwhile."""
        ready = threading.Event()
        with self._guard:
            self._waiting.add(ready)
            if self._is_cancelled:
                ready.set()
        asking = self._slots.request(ready.set)
        ready.wait()
        with self._guard:
            self._waiting.discard(ready)
            is_cancelled = self._is_cancelled
        if is_cancelled:
            self._slots.withdraw(asking)
            raise CancelledError


def _reporting(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Do the work, and report an error outside the task's body to Celery.

    Celery's pool of threads does not report such errors: the worker would hold the message and its
    slot for as long as it lives. Malformed callbacks, chains or chords in a message raise them.
    Errors of the connection are not reported: the message is requeued when the connection closes.
    """
    try:
        return work(*args, **options)
    except Exception as error:
        if is_unavailable(error) or len(args) <= 3 or not callable(args[3]):
            raise
        log.exception("a task failed outside its body")
        args[3]((1, ExceptionInfo(), 0.0))
        return None
