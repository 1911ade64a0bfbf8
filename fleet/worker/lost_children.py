"""What becomes of a run when its prefork child dies: its worker knows it before the lease ends.

    the child died          the lease ends now, so that the task is queued again within a second,
                            as a crash; Celery is told nothing, for nothing has failed yet
    before it had claimed   the delivery goes back to its queue, once: what kills every process that
                            reads it is missed by the reaper then, which ends it in time
    after the end           the same; the next worker gives Celery the word (`late_ends.py`)
    hard time limit         the task has failed, for Fleet as for Celery
    the worker ends         what has not stopped by then is given back in that moment
"""

from __future__ import annotations

from typing import Any

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker import state

from fleet.broker.app import Role
from fleet.errors import FleetError, TaskNotFound, TaskTimedOut
from fleet.tasks.connection import Connection
from fleet.tasks.leases.requeue import requeue_on_shutdown
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.outcome import failed
from fleet.tasks.store import Lease

log = structlog.get_logger(__name__)


def is_lost(exc_info: Any) -> bool:
    """Whether a delivery ended with its process."""
    return isinstance(_error_of(exc_info), WorkerLostError | SystemExit)


def is_over_limit(exc_info: Any) -> bool:
    """Whether a delivery ended with Celery's hard time limit."""
    return isinstance(_error_of(exc_info), TimeLimitExceeded)


def _error_of(exc_info: Any) -> Any:
    error = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def comes_back(
    connection: Connection, role: Role, task_id: str, process: int, *, again: bool
) -> bool:
    """Have the record bring a task back whose process has died. False where it will not: then its
    delivery has to go back. `again` says that it has gone back before."""
    tasks = connection.tasks.records
    try:
        is_its = tasks.expire(task_id, role.agent, process) is not None
        return is_its or (again and tasks.state(task_id) == "queued")
    except TaskNotFound:
        return False
    except FleetError as error:
        log.warning("the lease of a dead process goes on", task=task_id, error=str(error))
        return False


def fail_over_limit(
    connection: Connection, role: Role, task_id: str, process: int, seconds: float
) -> bool:
    """End a run whose process was killed over Celery's hard time limit. False where it has not
    ended by that: another run has the task, or Redis could not take it."""
    try:
        fence = connection.tasks.records.expire(task_id, role.agent, process)
        return fence is not None and _fail(connection, role, task_id, fence, seconds)
    except FleetError as error:
        log.warning("a task over its time limit may run again", task=task_id, error=str(error))
        return False


def _fail(
    connection: Connection, role: Role, task_id: str, fence: int, seconds: float
) -> bool:
    record = connection.tasks.records.read(task_id)
    end = failed(TaskTimedOut(f"the task ran over its hard time limit of {seconds:g} s"))
    ttl = connection.settings.config.limits.result_ttl_seconds
    lease = _lease(record, fence)
    return connection.tasks.records.finish(lease, role.pool, end.state, ttl, end.fields).kept


def hand_over(connection: Connection, role: Role) -> None:
    """Give back the agents' tasks that still run here, since the process ends now: as any that a
    worker gives back, they run elsewhere at once and count no crash."""
    for request in tuple(state.active_requests):
        try:
            record = connection.tasks.records.read(request.id)
            if record.state == "running" and record.agent == role.agent:
                requeue_on_shutdown(
                    connection.settings, connection.tasks.records, _lease(record, record.fence)
                )
        except TaskNotFound:
            # A plain task.
            continue
        except FleetError as error:
            log.warning("a task could not be given back", task=request.id, error=str(error))


def _lease(record: TaskRecord, fence: int) -> Lease:
    """The lease of a run that another process of this worker had, or has."""
    return Lease(
        task_id=record.id,
        fence=fence,
        request_type=record.request_type,
        tenant=record.tenant,
        complexity=record.complexity,
        model=record.model,
        attempt=record.attempts,
        agent_type=record.agent_type,
        pool=record.pool,
    )
