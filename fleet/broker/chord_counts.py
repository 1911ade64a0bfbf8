"""A chord goes on though a process died between the result of a header task and the chord's count.

Celery stores the result of a task first, and counts it in its chord then. A process that dies in
between leaves a chord that nobody ends: the message comes again, its task has a result, and Celery
looks no further. Here whoever gets the message again does the count. Celery's own script counts a
task once, and lets one process alone send the callback; where that one died as well, its claim is
waited for, some seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import Celery, bootsteps
from celery.app.task import Context
from celery.app.trace import TraceInfo, trace_ok_t
from celery.backends.base import DisabledBackend
from celery.backends.redis import RedisBackend
from celery.backends.rpc import RPCBackend
from celery.exceptions import Reject
from celery.signals import worker_process_init
from celery.states import FAILURE, READY_STATES, REJECTED, REVOKED

STOCK_REQUEST = "celery.worker.request:Request"
LOOK_SECONDS = 0.5

log = structlog.get_logger(__name__)


def has_result(task: Any, request: Any) -> bool:
    """Whether the result store has the end of a task."""
    # Messages that carry results cannot be looked at: they are their receiver's.
    if request.ignore_result or isinstance(task.backend, RPCBackend | DisabledBackend):
        return False
    # Not of an AsyncResult, which knows of the record too.
    return task.backend._get_task_meta_for(request.id)["status"] in READY_STATES


def complete_count(task: Any, request: Any) -> None:
    """Do what follows a stored result, once: count it in its chord, and fail the rest of its chain
    where it is a failure. Error callbacks are not called again."""
    while True:
        _count(task, request)
        if not _is_claimed(task.backend, request):
            return
        time.sleep(LOOK_SECONDS)


def _count(task: Any, request: Any) -> None:
    stored = task.AsyncResult(request.id)
    state, value = stored.state, stored.result
    if state == REVOKED:
        task.backend.mark_as_revoked(request.id, str(value), request=request, store_result=False)
    elif state == FAILURE:
        task.backend.mark_as_failure(
            request.id, value, stored.traceback, request=request, call_errbacks=False
        )
    elif request.chord:
        task.backend.on_chord_part_return(request, state, value)


def _is_claimed(backend: Any, request: Any) -> bool:
    """Whether a process, which may have died, was about to send the callback of the chord."""
    if not (request.chord and request.group and isinstance(backend, RedisBackend)):
        return False
    size, claim = backend.client.mget(
        backend.get_key_for_group(request.group, ".s"),
        backend.get_key_for_group(request.group, ".c"),
    )
    return size is not None and claim not in (None, b"done")


def add_chord_counts(app: Celery) -> None:
    """Let the application's workers complete the counts of plain tasks. Those of agents' tasks are
    completed where their end is told, see `late_ends.py`."""

    class ChordCounts(bootsteps.StartStopStep):
        """Has a plain task that comes again looked up before it runs."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            # Before Celery makes strategies of the tasks, and before children are forked.
            for task in _plain(consumer.app):
                if task.Request == STOCK_REQUEST:
                    task.Request = "fleet.worker.plain_requests:PlainRequest"
            worker_process_init.connect(lambda **_: _look_first(consumer.app), weak=False)

        def start(self, consumer: Any) -> None:
            _look_first(consumer.app)

        def stop(self, consumer: Any) -> None:
            """Nothing to stop."""

        shutdown = stop

    app.steps["consumer"].add(ChordCounts)


def _plain(app: Celery) -> list[Any]:
    return [task for task in app.tasks.values() if not getattr(task, "comes_again", False)]


def _look_first(app: Celery) -> None:
    for task in _plain(app):
        if task.__trace__ is not None and not hasattr(task.__trace__, "looks_first"):
            task.__trace__ = _looking_first(task, task.__trace__)


def _looking_first(task: Any, trace: Callable[..., Any]) -> Callable[..., Any]:
    def look(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        delivery = (request or {}).get("delivery_info") or {}
        if not (delivery.get("redelivered") and (request or {}).get("chord")):
            return trace(uuid, args, kwargs, request)
        context = Context(request, args=args, kwargs=kwargs)
        try:
            if not has_result(task, context):
                return trace(uuid, args, kwargs, request)
            log.info("a task had ended, and may not be counted in its chord", task=uuid)
            complete_count(task, context)
        except Exception as error:
            log.warning("a chord could not be counted now", task=uuid, error=repr(error))
            time.sleep(LOOK_SECONDS)
            return _gone_back()
        return trace_ok_t(None, None, 0.0, "")

    look.looks_first = True  # type: ignore[attr-defined]
    return look


def _gone_back() -> Any:
    try:
        raise Reject("its chord could not be counted now", requeue=True)
    except Reject as reject:
        return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(REJECTED, reject), 0.0, None)
