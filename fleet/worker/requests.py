"""Celery's request classes for agents' and plain tasks: a delivery in a worker's main process."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from signal import SIGKILL
from typing import Any

from celery.worker.request import Request
from celery.worker.state import task_ready

from fleet.broker.app import fleet_of
from fleet.broker.chord_counts import complete_count, has_result
from fleet.errors import FleetError
from fleet.telemetry.logger import get_logger
from fleet.worker.lost_children import (
    fail_over_limit,
    is_lost,
    is_over_limit,
    recover_lost_run,
)
from fleet.worker.revoking import REVOKED, withdraw

EXPIRED = "it had expired before it ran"

log = get_logger(__name__)


class AgentRequest(Request):
    """A delivery of an agent's task. If the task may not run, its record ends with the delivery."""

    def revoked(self) -> bool:
        """Whether the task may not run; Celery asks this before it runs the task."""
        if not super().revoked():
            return False
        reason = EXPIRED if self.maybe_expire() else REVOKED
        if withdraw(fleet_of(self.app), self.id, self.app.role.agent, reason, stop_running=False):
            self._free_slot()
        return True

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """Cancel the run, but keep its process: the process may run other tasks, and has to write
        the outcome."""
        withdraw(fleet_of(self.app), self.id, self.app.role.agent, REVOKED, stop_running=True)

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """Handle the end of the delivery. If the process died, nothing has failed yet: the task
        runs again. After a hard time limit, Celery's pool calls `on_timeout` next."""
        if not return_ok and is_over_limit(exc_info):
            return
        if not is_lost(exc_info):
            super().on_failure(exc_info, send_failed_event, return_ok)
            return
        task_ready(self)
        redelivered = bool((self.delivery_info or {}).get("redelivered"))
        lost = (fleet_of(self.app), self.app.role, self.id, self.worker_pid)
        if recover_lost_run(*lost, redelivered=redelivered):
            self.acknowledge()
        else:
            self.reject(requeue=True)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Handle a time limit of Celery's. Over a hard limit, the process is killed. Celery is
        notified of a failure only if the record has ended with it; else the task runs again."""
        if not soft and not self._fail(timeout):
            task_ready(self)
            self.reject(requeue=True)
            return
        super().on_timeout(soft, timeout)

    def _fail(self, timeout: float) -> bool:
        # The outcome must not be written while the process still works; the pool kills it later.
        with suppress(ProcessLookupError):
            os.kill(self.worker_pid, SIGKILL)
        return fail_over_limit(
            fleet_of(self.app), self.app.role, self.id, self.worker_pid, timeout
        )

    def _free_slot(self) -> None:
        try:
            fleet_of(self.app).tasks.records.free_slot(self.id, self.app.role.pool)
        except FleetError as error:
            log.warning(
                "slot stays taken until the reaper's next sweep", task=self.id, error=str(error)
            )


class PlainRequest(Request):
    """A delivery of a plain task. A chord may wait for the count of one whose process died after
    the result was stored."""

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """As in Celery, which would acknowledge such a task and never count it."""
        if not (is_lost(exc_info) and self._context.chord and self._has_result()):
            super().on_failure(exc_info, send_failed_event, return_ok)
        elif self.acknowledged:
            task_ready(self)
            threading.Thread(target=self._complete_count, daemon=True).start()
        else:
            # The next worker that gets the message completes the count.
            task_ready(self)
            self.reject(requeue=True)

    def _has_result(self) -> bool:
        try:
            return has_result(self.task, self._context)
        except Exception as error:
            log.warning("result lookup failed", task=self.id, error=repr(error))
            return False

    def _complete_count(self) -> None:
        try:
            complete_count(self.task, self._context)
        except Exception as error:
            log.warning("chord count failed", task=self.id, error=repr(error))
