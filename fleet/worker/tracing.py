"""Celery is notified of the outcome in an agent's task's record, and of nothing else.

Celery's tracer turns every exception into a failure: it stores FAILURE, fails the chord and sends
the error callbacks. For an agent's task only one exception means that: the error that its record
ended with. Any other exception means that this delivery had no outcome: the lease was lost, Redis
was unavailable when the outcome was due, or the callbacks could not be sent. The task then runs
elsewhere, or has succeeded. So the delivery is requeued, and the next worker reads the record: it
runs the task, drops the message, or notifies Celery of the outcome (`late_results.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.app.trace import TraceInfo, build_tracer
from celery.exceptions import Reject
from celery.states import REJECTED
from kombu.exceptions import LimitExceeded, OperationalError
from redis import DataError, RedisError

from fleet.broker.known_tasks import SentTask
from fleet.errors import FleetError, RetryLater
from fleet.tasks.submission.refusals import REFUSALS
from fleet.telemetry.logger import get_logger

PAUSE_SECONDS = 1.0
"""Wait before a requeue: without it, a Redis that refuses all calls would mean a busy loop."""

NOTIFY_SECONDS = 30.0
"""How long to retry notifying Celery of a failure while the result backend or the broker is
unavailable. Once the failure is stored, no other process would send the error callbacks."""

UNAVAILABLE_ERRORS = (RetryLater, OperationalError, LimitExceeded, RedisError, OSError)
"""Errors of the broker and the result backend: they say nothing about the task. Other errors of
Kombu's do: a serializer that is unknown now is also unknown at the next delivery."""

MESSAGE_ERRORS = (*REFUSALS, DataError)
"""Errors of these classes that the message itself causes."""

log = get_logger(__name__)


def is_unavailable(error: BaseException) -> bool:
    """Whether an error says that Redis, the broker or the result backend is unavailable now. False
    for a refusal of the tasks that follow: that is a failure."""
    return isinstance(error, UNAVAILABLE_ERRORS) and not isinstance(error, MESSAGE_ERRORS)


def note_outcome(task: Any, error: BaseException) -> None:
    """Note that an error is the outcome of the running task, so that Celery may store a failure."""
    task.request.fleet_outcome = error


def is_outcome(request: Any, error: BaseException) -> bool:
    """Whether an error was noted as the outcome of a request's task."""
    return error is getattr(request, "fleet_outcome", None)


def requeue_delivery(task_id: str, error: BaseException) -> Reject:
    """An exception that requeues a delivery, after an error that is no outcome of its task."""
    # The error's text may hold anything, so it must not reach a prefork worker's main process.
    reason = repr(error) if isinstance(error, FleetError) else type(error).__name__
    log.warning("requeueing a delivery", task=task_id, error=reason)
    time.sleep(PAUSE_SECONDS)
    return Reject(reason, requeue=True)


class AgentTrace(TraceInfo):
    """How a delivery of an agent's task ended. `rejected` is set if it is requeued."""

    def __init__(self, state: str, retval: Any = None) -> None:
        super().__init__(state, retval)
        self.rejected: ExceptionInfo | None = None

    def handle_error_state(self, task: Any, req: Any, **options: Any) -> Any:
        """Notify Celery of an error, or requeue the delivery."""
        if not is_outcome(req, self.retval) and is_unavailable(self.retval):
            return self._reject(req, self.retval)
        give_up = time.monotonic() + NOTIFY_SECONDS
        while True:
            try:
                return super().handle_error_state(task, req, **options)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                if time.monotonic() > give_up:
                    return self._reject(req, error)
                time.sleep(PAUSE_SECONDS)

    def _reject(self, req: Any, error: BaseException) -> ExceptionInfo:
        try:
            raise requeue_delivery(req.id, error)
        except Reject as reject:
            self.state, self.retval = REJECTED, reject
            self.rejected = ExceptionInfo(internal=True)
        return self.rejected


class AgentTask(SentTask):
    """The base of agents' tasks. It replaces the tracer that Celery gives each task by its own."""

    abstract = True
    _trace: Callable[..., Any] | None = None

    @property
    def __trace__(self) -> Callable[..., Any] | None:
        return self._trace

    @__trace__.setter
    def __trace__(self, _: Callable[..., Any] | None) -> None:
        trace = build_tracer(
            self.name, self, self.app.loader, Info=AgentTrace, app=self.app
        )

        def run(*args: Any, **options: Any) -> Any:
            found = trace(*args, **options)
            rejected = getattr(found.info, "rejected", None)
            # Celery would keep the first of several errors, and acknowledge the delivery.
            return found if rejected is None else found._replace(retval=rejected)

        self._trace = run
