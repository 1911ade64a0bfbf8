"""What Celery's `revoke` and `expires` mean to an agent's task.

    waits, in a queue or for a time    its record ends as cancelled, and what it held is free
    runs                               it goes on; with `terminate` the run is cancelled, and its
                                       process lives on
    has expired when it is delivered   its record ends as cancelled

A stock worker notes what is revoked in its memory, and drops the message when it comes. The record
would stay behind, and bring the message back.
"""

from __future__ import annotations

import os
from contextlib import suppress
from signal import SIGKILL
from typing import Any

import structlog
from celery import Celery
from celery.utils.functional import maybe_list
from celery.worker.control import Panel, control_command
from celery.worker.request import Request
from celery.worker.state import task_ready

from fleet.broker.app import Role, fleet_of
from fleet.errors import FleetError, TaskNotFound
from fleet.tasks.connection import Connection
from fleet.worker.lost_children import comes_back, fail_over_limit, is_lost, is_over_limit

REVOKED = "revoked through Celery"
EXPIRED = "it had expired before it ran"

log = structlog.get_logger(__name__)


def agent_request(connection: Connection, role: Role) -> type[Request]:
    """The class of the deliveries of agents' tasks, in a worker's main process."""

    class AgentRequest(Request):
        """A delivery whose record ends with it, where it is not to run."""

        def revoked(self) -> bool:
            """Whether it is not to run; asked before it does."""
            if not super().revoked():
                return False
            why = EXPIRED if self.maybe_expire() else REVOKED
            if withdraw(connection, self.id, role.agent, why, stop_running=False):
                _free_slot(connection, self.id, role.pool)
            return True

        def terminate(self, pool: Any, signal: Any = None) -> None:
            """Cancel the run. Its process may run other tasks, and has to write the end."""
            withdraw(connection, self.id, role.agent, REVOKED, stop_running=True)

        def on_failure(
            self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
        ) -> None:
            """Where its process has died nothing has failed yet: it runs again. Of a hard time
            limit Celery's pool tells `on_timeout` next."""
            if not return_ok and is_over_limit(exc_info):
                return
            if not is_lost(exc_info):
                super().on_failure(exc_info, send_failed_event, return_ok)
                return
            task_ready(self)
            again = bool((self.delivery_info or {}).get("redelivered"))
            if comes_back(connection, role, self.id, self.worker_pid, again=again):
                self.acknowledge()
            else:
                self.reject(requeue=True)

        def on_timeout(self, soft: bool, timeout: float) -> None:
            """Over a hard limit its process is killed. Celery is told of a failure only where the
            record has ended with it; else the task runs again."""
            if not soft and not self._ends(timeout):
                task_ready(self)
                self.reject(requeue=True)
                return
            super().on_timeout(soft, timeout)

        def _ends(self, timeout: float) -> bool:
            # No end is written of what still works; the pool kills it too, later.
            with suppress(ProcessLookupError):
                os.kill(self.worker_pid, SIGKILL)
            return fail_over_limit(connection, role, self.id, self.worker_pid, timeout)

    return AgentRequest


def add_revocation(app: Celery) -> None:
    """Let the worker of this process end the records of revoked tasks, beside what Celery does."""
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
    connection: Connection, task_id: str, by: str, why: str, *, stop_running: bool
) -> bool:
    """Cancel a task, if it is one of Fleet's. False where Redis could not take it: by the slot
    that the task keeps the reaper sees then that its message is gone, and brings it back, to be
    withdrawn once more."""
    ttl = connection.settings.config.limits.result_ttl_seconds
    try:
        connection.tasks.records.cancel(task_id, ttl, by, why, stop_running=stop_running)
    except TaskNotFound:
        # A plain task, or one whose publisher wrote no record.
        return True
    except FleetError as error:
        log.warning("a task could not be withdrawn", task=task_id, error=str(error))
        return False
    return True


def _free_slot(connection: Connection, task_id: str, pool: str) -> None:
    try:
        connection.tasks.records.free_slot(task_id, pool)
    except FleetError as error:
        log.warning("a slot stays taken until the reaper looks", task=task_id, error=str(error))
