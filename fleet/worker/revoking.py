"""Celery's `revoke` and `expires`, applied to the records of agents' tasks.

    waits, in a queue or for a time    its record ends as cancelled, and its slot is free
    runs                               it continues; with `terminate` the run is cancelled, and its
                                       process lives on
    has expired when it is delivered   its record ends as cancelled (`requests.py`)

A stock worker keeps revocations in its memory, and drops a revoked message when it arrives. The
record would stay behind, and the reaper would send the message again.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.utils.functional import maybe_list
from celery.worker.control import Panel, control_command

from fleet.broker.app import fleet_of
from fleet.errors import FleetError, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.telemetry.logger import get_logger

REVOKED = "revoked through Celery"

log = get_logger(__name__)


def add_revocation(app: Celery) -> None:
    """Have this process's worker end the records of revoked tasks, beside what Celery does."""
    stock = Panel.data["revoke"]
    connection = fleet_of(app)

    def revoke(state: Any, task_id: Any, terminate: bool = False, **more: Any) -> Any:
        """Revoke tasks by id, or by a list of ids."""
        answer = stock(state, task_id, terminate=terminate, **more)
        for each in maybe_list(task_id) or ():
            withdraw(connection, each, state.hostname, REVOKED, stop_running=terminate)
        return answer

    def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> Any:
        """Terminate tasks by id, or by a list of ids."""
        return revoke(state, task_id, terminate=True, signal=signal)

    ids = "[id1 [id2 [... [idN]]]]"
    control_command(name="revoke", variadic="task_id", signature=ids)(revoke)
    control_command(
        name="terminate", variadic="task_id", args=[("signal", str)], signature=f"<signal> {ids}"
    )(terminate)


def withdraw(
    connection: Connection, task_id: str, by: str, reason: str, *, stop_running: bool
) -> bool:
    """Cancel a task, if it is one of Fleet's. False if Redis could not take the call: the task then
    keeps its slot, by which the reaper notices the missing message and sends it again, and the next
    delivery withdraws it."""
    ttl = connection.settings.config.limits.result_ttl_seconds
    try:
        connection.tasks.records.cancel(task_id, ttl, by, reason, stop_running=stop_running)
    except TaskNotFound:
        # A plain task, or one whose publisher wrote no record.
        return True
    except FleetError as error:
        log.warning("withdrawing a task failed", task=task_id, error=str(error))
        return False
    return True
