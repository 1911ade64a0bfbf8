"""A delivery of a plain task, in a worker's main process."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery.worker.request import Request
from celery.worker.state import task_ready

from fleet.broker.chord_counts import complete_count, has_result
from fleet.worker.lost_children import is_lost

log = structlog.get_logger(__name__)


class PlainRequest(Request):
    """Knows that a chord may wait for the count of a task whose process was lost after its end."""

    def on_failure(
        self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False
    ) -> None:
        """As of Celery, which would acknowledge such a task and look no further."""
        if not (is_lost(exc_info) and self._context.chord and self._has_result()):
            super().on_failure(exc_info, send_failed_event, return_ok)
        elif self.acknowledged:
            task_ready(self)
            threading.Thread(target=self._complete_count, daemon=True).start()
        else:
            # Whoever gets it next does the count.
            task_ready(self)
            self.reject(requeue=True)

    def _has_result(self) -> bool:
        try:
            return has_result(self.task, self._context)
        except Exception as error:
            log.warning("a result could not be looked up", task=self.id, error=repr(error))
            return False

    def _complete_count(self) -> None:
        try:
            complete_count(self.task, self._context)
        except Exception as error:
            log.warning("a chord could not be counted", task=self.id, error=repr(error))
