"""Late results: Celery's result backend is notified of a task that a delivery finds ended.

Chains, chords, callbacks and callers that wait for Celery's result of an agent's task are notified
by the process that ran it. This notice may be missing: the process died between the outcome and the
notice, or no run ended the task, but a cancellation, the reaper after too many crashes, or a limit.
The task's message is then delivered once more, as are all messages of a dead worker, or because a
script sends it (`redis/lua/parts/notify.lua`). That delivery sends the notice here.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery.exceptions import Ignore, Reject
from celery.states import STARTED

from fleet.broker.chord_counts import complete_count, has_result
from fleet.broker.messages import FOLLOW_UPS
from fleet.errors import FleetError, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.outcome import error_from
from fleet.telemetry.logger import get_logger

OWN_NOTICE_SECONDS = 2.0
"""How long a live process that has ended a task gets to notify Celery itself."""

log = get_logger(__name__)


def late_result(task: Any, connection: Connection) -> dict[str, Any]:
    """The result of a task that this delivery has not run, for Celery to store and pass on.

    Raises the error that the task ended with. Raises `Ignore` if no notice is due: the task runs
    elsewhere, Celery has been notified, or nobody waits. Raises `Reject` if Redis, the broker or
    the result backend cannot answer now.
    """
    record = _record(task.request.id, connection)
    if record is None or not record.has_ended:
        raise Ignore
    if record.state == "cancelled" and not _has_result(task):
        notify_revoked(task, "the task was cancelled", terminated=False)
    needs_no_notice = record.state == "cancelled" or not _is_awaited(task.request)
    if needs_no_notice or _is_notified(task, record, connection):
        _complete_count(task)
        raise Ignore
    log.info("notifying Celery of a late result", task=record.id, state=record.state)
    if record.error is not None:
        raise error_from(record.error, None)
    return dict(record.result or {})


def _complete_count(task: Any) -> None:
    """Complete the chord or the chain. Celery has the result, but the process that stored it may
    have died before it notified these."""
    follows = task.request.chord or task.request.chain
    if not follows or not _has_result(task):
        return
    try:
        complete_count(task, task.request)
    except Exception as error:
        raise Reject(error, requeue=True) from error


def notify_revoked(task: Any, reason: str, *, terminated: bool) -> None:
    """Notify the result backend and monitors of a cancelled task."""
    stores = not task.request.ignore_result
    task.backend.mark_as_revoked(task.request.id, reason, request=task.request, store_result=stores)
    task.send_event("task-revoked", terminated=terminated, signum=None, expired=False)


def notify_started(task: Any) -> None:
    """Notify the result backend that a task starts here."""
    request = task.request
    if request.ignore_result:
        return
    runs_in = {"pid": os.getpid(), "hostname": request.hostname}
    try:
        task.backend.store_result(request.id, runs_in, STARTED, request=request)
    except Exception as error:
        # Any result backend may fail here; a missing start stops no task.
        log.warning("notifying Celery of a start failed", task=request.id, error=repr(error))


def _record(task_id: str, connection: Connection) -> TaskRecord | None:
    try:
        return connection.tasks.records.read(task_id)
    except TaskNotFound:
        return None
    except FleetError as error:
        raise Reject(error, requeue=True) from None


def _is_awaited(request: Any) -> bool:
    """Whether a caller, callback, chain or chord waits for the result."""
    return not request.ignore_result or any(request.get(name) for name in FOLLOW_UPS)


def _is_notified(task: Any, record: TaskRecord, connection: Connection) -> bool:
    """Whether Celery has the result. A second notice would start the following tasks twice. For an
    ignored result this is unknown, and counts as no."""
    if _has_result(task):
        return True
    if not record.history or record.history[-1].by not in _live_agents(connection):
        return False
    time.sleep(OWN_NOTICE_SECONDS)
    return _has_result(task)


def _live_agents(connection: Connection) -> set[str]:
    try:
        return {
            agent.id for agent in connection.routing.agents.agents() if agent.status != "failed"
        }
    except FleetError as error:
        raise Reject(error, requeue=True) from None


def _has_result(task: Any) -> bool:
    try:
        return has_result(task, task.request)
    except Exception as error:
        # The result backend does not answer: a later delivery sends the notice.
        raise Reject(error, requeue=True) from error
