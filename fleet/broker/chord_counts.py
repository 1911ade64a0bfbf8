"""A chord completes even if a process died between a header task's result and the chord's count.

Celery first stores the result of a task, and then counts the task in its chord. If a process dies
in between, the chord never ends: the message is delivered again, its task has a result, and Celery
skips the count. Here the worker that gets the message again does the count. Celery's own script
counts a task once, and lets only one process send the callback. If that process died as well, the
next one waits some seconds for its claim to expire.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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

from fleet.broker.known_tasks import is_plain
from fleet.telemetry.logger import get_logger

STOCK_REQUEST = "celery.worker.request:Request"
POLL_SECONDS = 0.5

log = get_logger(__name__)


def has_result(task: Any, request: Any) -> bool:
    """Whether the result backend has the outcome of a task."""
    # The RPC backend sends results as messages, which only their receiver can read.
    if request.ignore_result or isinstance(task.backend, RPCBackend | DisabledBackend):
        return False
    # Not by an AsyncResult, which would also read the record.
    return task.backend._get_task_meta_for(request.id)["status"] in READY_STATES


def complete_count(task: Any, request: Any) -> None:
    """Do what follows a stored result, once: count the task in its chord and, if it failed, fail
    the rest of its chain. Error callbacks are not called again."""
    while True:
        _count(task, request)
        if not _is_claimed(task.backend, request):
            return
        time.sleep(POLL_SECONDS)


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
    """Whether another process, which may have died, has claimed the chord's callback."""
    if not (request.chord and request.group and isinstance(backend, RedisBackend)):
        return False
    size, claim = backend.client.mget(
        backend.get_key_for_group(request.group, ".s"),
        backend.get_key_for_group(request.group, ".c"),
    )
    return size is not None and claim not in (None, b"done")


def add_chord_counts(app: Celery) -> None:
    """Have the application's workers complete the counts of plain tasks. Those of agents' tasks are
    completed with their late results, see `worker/late_results.py`."""

    class ChordCounts(bootsteps.StartStopStep):
        """Has the result of a redelivered plain task looked up before the task runs."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **options: Any) -> None:
            super().__init__(consumer, **options)
            # Before Celery builds the tasks' strategies, and before children are forked.
            for task in _plain(consumer.app):
                if task.Request == STOCK_REQUEST:
                    task.Request = "fleet.worker.requests:PlainRequest"
            worker_process_init.connect(lambda **_: _wrap_traces(consumer.app), weak=False)

        def start(self, consumer: Any) -> None:
            _wrap_traces(consumer.app)

        def stop(self, consumer: Any) -> None:
            """Nothing to stop."""

        shutdown = stop

    app.steps["consumer"].add(ChordCounts)


def _plain(app: Celery) -> list[Any]:
    return [task for task in app.tasks.values() if is_plain(task)]


def _wrap_traces(app: Celery) -> None:
    for task in _plain(app):
        if task.__trace__ is not None and not hasattr(task.__trace__, "checks_result"):
            task.__trace__ = _checking_result(task, task.__trace__)


def _checking_result(task: Any, trace: Callable[..., Any]) -> Callable[..., Any]:
    def check_first(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        delivery = (request or {}).get("delivery_info") or {}
        if not (delivery.get("redelivered") and (request or {}).get("chord")):
            return trace(uuid, args, kwargs, request)
        context = Context(request, args=args, kwargs=kwargs)
        try:
            if not has_result(task, context):
                return trace(uuid, args, kwargs, request)
            log.info("redelivered task has a result; completing its chord count", task=uuid)
            complete_count(task, context)
        except Exception as error:
            log.warning("chord count failed, requeueing", task=uuid, error=repr(error))
            time.sleep(POLL_SECONDS)
            return _requeued()
        return trace_ok_t(None, None, 0.0, "")

    check_first.checks_result = True  # type: ignore[attr-defined]
    return check_first


def _requeued() -> Any:
    try:
        raise Reject("chord count failed", requeue=True)
    except Reject as reject:
        return trace_ok_t(ExceptionInfo(internal=True), TraceInfo(REJECTED, reject), 0.0, None)
