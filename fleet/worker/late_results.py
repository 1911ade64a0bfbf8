"""Celery's word for a task that has ended, where a delivery finds it so.

Who waits for Celery's result of an agent's task, a chain, a chord, a callback, has the word from
the process that ran it. There may be none: that process died between the end and the word, or no
run has ended the task, but a cancellation, the reaper after too many crashes, or a limit. Its
message is then delivered once more, as all that a dead worker held, or by the scripts
(`redis/lua/parts/notify.lua`), and the word is given here.
"""

from __future__ import annotations

import os
import time
from typing import Any

import structlog
from celery.exceptions import Ignore, Reject
from celery.states import STARTED

from fleet.broker.chord_counts import complete_count, has_result
from fleet.broker.messages import FOLLOWS
from fleet.errors import FleetError, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.outcome import error_from

SECONDS_FOR_ITS_OWN = 2.0
"""A process that has just ended a task is given so long to give the word itself."""

log = structlog.get_logger(__name__)


def late_end(task: Any, connection: Connection) -> dict[str, Any]:
    """The result of a delivered task that this delivery has not run, for Celery to hand on.

    Raises the error that the task ended with, and `Ignore` where there is nothing to tell: it goes
    on elsewhere, or Celery knows, or nobody asked; `Reject` where that cannot be found out now.
    """
    record = _record(task.request.id, connection)
    if record is None or not record.has_ended:
        raise Ignore
    if record.state == "cancelled" and not _is_kept(task):
        tell_revoked(task, "the task was cancelled", terminated=False)
    if record.state == "cancelled" or not _asks(task.request) or _knows(task, record, connection):
        _complete_count(task)
        raise Ignore
    log.info("Celery is told of an end that it may not know of", task=record.id, state=record.state)
    if record.error is not None:
        raise error_from(record.error, None)
    return dict(record.result or {})


def _complete_count(task: Any) -> None:
    """Celery has the word, but whoever gave it may have died before the chord, or the rest of the
    chain, had it."""
    follows = task.request.chord or task.request.chain
    if not follows or not _is_kept(task):
        return
    try:
        complete_count(task, task.request)
    except Exception as error:
        raise Reject(error, requeue=True) from error


def tell_revoked(task: Any, reason: str, *, terminated: bool) -> None:
    """Celery's word for a cancelled task: to who waits for its result, and to monitors."""
    kept = not task.request.ignore_result
    task.backend.mark_as_revoked(task.request.id, reason, request=task.request, store_result=kept)
    task.send_event("task-revoked", terminated=terminated, signum=None, expired=False)


def tell_started(task: Any) -> None:
    """Celery's word for a task that is to run here."""
    request = task.request
    if request.ignore_result:
        return
    runs_in = {"pid": os.getpid(), "hostname": request.hostname}
    try:
        task.backend.store_result(request.id, runs_in, STARTED, request=request)
    except Exception as error:
        # Whatever keeps the results: that it has not this one stops no task.
        log.warning("Celery is not told of a start", task=request.id, error=repr(error))


def _record(task_id: str, connection: Connection) -> TaskRecord | None:
    try:
        return connection.tasks.records.read(task_id)
    except TaskNotFound:
        return None
    except FleetError as error:
        raise Reject(error, requeue=True) from None


def _asks(request: Any) -> bool:
    """Whether anybody waits for the word."""
    return not request.ignore_result or any(request.get(name) for name in FOLLOWS)


def _knows(task: Any, record: TaskRecord, connection: Connection) -> bool:
    """Whether Celery has the word. What it is given twice starts what follows twice; of a result
    that is ignored nobody can tell."""
    if _is_kept(task):
        return True
    if not record.history or record.history[-1].by not in _live_agents(connection):
        return False
    time.sleep(SECONDS_FOR_ITS_OWN)
    return _is_kept(task)


def _live_agents(connection: Connection) -> set[str]:
    try:
        return {
            agent.id for agent in connection.routing.agents.agents() if agent.status != "failed"
        }
    except FleetError as error:
        raise Reject(error, requeue=True) from None


def _is_kept(task: Any) -> bool:
    try:
        return has_result(task, task.request)
    except Exception as error:
        # Whatever keeps the results, it does not answer: the word is for later.
        raise Reject(error, requeue=True) from error
