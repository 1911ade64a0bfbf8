"""The threads of a worker, in which plain tasks wait for a slot before they begin.

A worker of threads has more of them than slots, see `fleet.worker.slots`. What bounds a stock
worker, the number of its threads, bounds nothing here: the slots do, which agents take in their
loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo

from fleet.tasks.leases.slots import TaskSlots
from fleet.worker.tracing import is_away

log = structlog.get_logger(__name__)


class SlotThreads(ThreadPoolExecutor):
    """The executor of a pool of threads; an agent's task has its thread without a slot."""

    def __init__(self, threads: int, slots: TaskSlots, agent_tasks: Collection[str]) -> None:
        super().__init__(threads)
        self._agent_tasks = agent_tasks
        self._slots = slots
        self._guard = threading.Lock()
        self._asking: set[threading.Event] = set()
        self._ends = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Have a thread do `work(target, arguments, ...)`, as Celery's pool of threads asks for:
        the first of a task's arguments is its name."""
        name = args[1][0] if len(args) > 1 and args[1] else ""
        if name in self._agent_tasks:
            return super().submit(_told, work, *args, **options)
        return super().submit(self._in_slot, work, *args, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of any executor; with `cancel_futures` tasks that wait for a slot do not begin."""
        with self._guard:
            self._ends = cancel_futures
            asking = tuple(self._asking) if cancel_futures else ()
        for told in asking:
            told.set()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _in_slot(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._take()
        try:
            return _told(work, *args, **options)
        finally:
            self._slots.release()

    def _take(self) -> None:
        """Wait for a slot. Raises `CancelledError` where the worker ends meanwhile."""
        told = threading.Event()
        with self._guard:
            self._asking.add(told)
            if self._ends:
                told.set()
        asking = self._slots.request(told.set)
        told.wait()
        with self._guard:
            self._asking.discard(told)
            ends = self._ends
        if ends:
            self._slots.withdraw(asking)
            raise CancelledError


def _told(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Do the work, and tell Celery of an error that came outside a task's body.

    Celery's pool of threads tells nobody: the worker would hold the message, and its slot, for as
    long as it lives. What the message says of the tasks that follow raises such errors. Those of a
    connection say nothing about the message, which goes back with the connection.
    """
    try:
        return work(*args, **options)
    except Exception as error:
        if is_away(error) or len(args) <= 3 or not callable(args[3]):
            raise
        log.exception("a task failed outside its body")
        args[3]((1, ExceptionInfo(), 0.0))
        return None
