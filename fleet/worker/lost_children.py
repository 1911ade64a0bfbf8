"""The death of a prefork child: a new child replaces it, and its task is requeued at once.

    the child died              the lease ends now, and the task is queued again within a second, as
                                a crash; Celery is not notified, for nothing has failed yet
    it had claimed nothing yet  the delivery is requeued once. If it kills the next process too, it
                                is acknowledged: the reaper notices the missing message, and ends
                                the task after some attempts
    it had written the outcome  the same; the next worker notifies Celery (`late_results.py`)
    hard time limit             the task has failed, for Fleet as for Celery
    the worker shuts down       tasks that have not stopped in time are requeued when it exits

Celery reads that a child's pipe has closed a moment before the kernel counts the child as dead. If
Celery checks within that moment it sees a live child, and next checks 5 s later; until then the
pool lacks a child, and the tasks handed to it wait. So Fleet checks more often.

A new child reports that it is up once it has imported its agents. One that has not done so within
`START_SECONDS` hangs, and is killed. Celery's own limit of 4 s is too short for a busy machine, on
which each child in turn would be killed.
"""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Celery, bootsteps
from celery.concurrency.prefork import TaskPool
from celery.worker import state

from fleet.broker.app import Role
from fleet.errors import FleetError, TaskNotFound, TaskTimedOut
from fleet.tasks.connection import Connection
from fleet.tasks.leases.requeue import requeue_on_shutdown
from fleet.tasks.record import TaskRecord
from fleet.tasks.run.outcome import failed
from fleet.tasks.store import Lease
from fleet.telemetry.logger import get_logger

POLL_SECONDS = 0.5
START_SECONDS = 60.0

log = get_logger(__name__)


def watch_children(app: Celery) -> None:
    """Have the application's prefork workers replace dead children within a second."""
    app.conf.worker_proc_alive_timeout = START_SECONDS
    app.steps["consumer"].add(ChildWatch)


class ChildWatch(bootsteps.StartStopStep):
    """Checks for dead children, in the worker's event loop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timer: Any = None

    def start(self, consumer: Any) -> None:
        if consumer.hub is not None and isinstance(consumer.pool, TaskPool):
            self.timer = consumer.hub.call_repeatedly(POLL_SECONDS, consumer.pool.maintain_pool)

    def stop(self, consumer: Any) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    shutdown = stop


def is_lost(exc_info: Any) -> bool:
    """Whether a delivery ended because its process died."""
    return isinstance(_error_of(exc_info), WorkerLostError | SystemExit)


def is_over_limit(exc_info: Any) -> bool:
    """Whether a delivery ended with Celery's hard time limit."""
    return isinstance(_error_of(exc_info), TimeLimitExceeded)


def _error_of(exc_info: Any) -> Any:
    error = exc_info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def recover_lost_run(
    connection: Connection, role: Role, task_id: str, process: int, *, redelivered: bool
) -> bool:
    """Have the task of a dead process queued again by its record. False if the record cannot do
    so: the delivery then has to be requeued. `redelivered`: it has been requeued before."""
    tasks = connection.tasks.records
    try:
        is_ours = tasks.expire(task_id, role.agent, process) is not None
        return is_ours or (redelivered and tasks.state(task_id) == "queued")
    except TaskNotFound:
        return False
    except FleetError as error:
        log.warning("ending the lease of a dead process failed", task=task_id, error=str(error))
        return False


def fail_over_limit(
    connection: Connection, role: Role, task_id: str, process: int, seconds: float
) -> bool:
    """Fail a run whose process was killed over Celery's hard time limit of `seconds`. False if the
    task has not ended by that: another run has it, or Redis could not take the call."""
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


def requeue_running(connection: Connection, role: Role) -> None:
    """Requeue the agents' tasks that still run here, since the process exits now. As after any
    requeue on shutdown, they run elsewhere at once and count no crash."""
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
            log.warning("requeueing a task failed", task=request.id, error=str(error))


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
