"""What Celery is told of an agent's task: the end that its record has, and nothing else.

Celery's tracer makes a failure of every exception: it stores FAILURE, fails the chord and sends the
error callbacks. Of an agent's task that is right for one exception alone, the error that its record
ended with. Any other says that this delivery came to nothing: the lease was lost, Redis was away
when the end was to be written, or the callbacks could not be sent. The task goes on elsewhere then,
or has ended well. So the delivery goes back to its queue, and whoever gets it next looks at the
record: it is run, dropped, or Celery is told of its end (`late_ends.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery.app.trace import TraceInfo, build_tracer
from celery.exceptions import Reject
from celery.states import REJECTED
from kombu.exceptions import LimitExceeded, OperationalError
from redis import DataError, RedisError

from fleet.broker.known_tasks import SentTask
from fleet.errors import FleetError, RetryLater
from fleet.tasks.submission.refusals import REFUSALS

PAUSE_SECONDS = 1.0
"""What goes back would be delivered again at once, and as often, while Redis refuses everything."""

TELL_SECONDS = 30.0
"""How long Celery is told of a failure again, while the result store or the broker is away. Once
the failure is stored nobody else would send the error callbacks."""

AWAY = (RetryLater, OperationalError, LimitExceeded, RedisError, OSError)
"""Errors of what carries messages and results: they say nothing of the task. Others of Kombu's do:
a serializer that nobody knows is as unknown at the next delivery."""

OF_WHAT_IS_SENT = (*REFUSALS, DataError)
"""Errors like these that what is to be sent has itself."""

log = structlog.get_logger(__name__)


def is_away(error: BaseException) -> bool:
    """Whether an error says that Redis, the broker or the result store could not do something now.
    What is to follow a task may also be refused: that it is told."""
    return isinstance(error, AWAY) and not isinstance(error, OF_WHAT_IS_SENT)


def note_end(task: Any, error: BaseException) -> None:
    """Note that an error is the end of the task that runs: Celery may make a failure of it."""
    task.request.told_end = error


def is_end(request: Any, error: BaseException) -> bool:
    """Whether an error is the end of the task of a request, as it was noted."""
    return error is getattr(request, "told_end", None)


def goes_back(task_id: str, error: BaseException) -> Reject:
    """Give a delivery back to its queue, where an error kept it from coming to anything."""
    # The error itself may not reach the main process of a prefork worker: it may hold anything.
    told = repr(error) if isinstance(error, FleetError) else type(error).__name__
    log.warning("a delivery goes back to its queue", task=task_id, error=told)
    time.sleep(PAUSE_SECONDS)
    return Reject(told, requeue=True)


class AgentTrace(TraceInfo):
    """How a delivery of an agent's task ended. `rejected` is set where it goes back."""

    def __init__(self, state: str, retval: Any = None) -> None:
        super().__init__(state, retval)
        self.rejected: ExceptionInfo | None = None

    def handle_error_state(self, task: Any, req: Any, **options: Any) -> Any:
        """Tell Celery of an error, or have the delivery go back."""
        if not is_end(req, self.retval) and is_away(self.retval):
            return self._reject(req, self.retval)
        give_up = time.monotonic() + TELL_SECONDS
        while True:
            try:
                return super().handle_error_state(task, req, **options)
            except Exception as error:
                if not is_away(error):
                    raise
                if time.monotonic() > give_up:
                    return self._reject(req, error)
                time.sleep(PAUSE_SECONDS)

    def _reject(self, req: Any, error: BaseException) -> ExceptionInfo:
        try:
            raise goes_back(req.id, error)
        except Reject as reject:
            self.state, self.retval = REJECTED, reject
            self.rejected = ExceptionInfo(internal=True)
        return self.rejected


class AgentTask(SentTask):
    """The base of agents' tasks. Celery gives each a tracer; this one makes its own instead."""

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
            # Celery keeps the first of several errors, and would acknowledge the delivery.
            return found if rejected is None else found._replace(retval=rejected)

        self._trace = run
