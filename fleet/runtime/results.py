"""Celery's result store in Redis, which also knows the tasks of `Fleet.submit`.

Such a task asks for no result of Celery's: its end is in its record, and a second write would
cost every task. So an `AsyncResult` of its id is answered from the record, where Celery has kept
nothing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, ResultConsumer, SentinelBackend
from celery.exceptions import TaskRevokedError
from kombu.utils.objects import cached_property

from fleet.core.task_states import ENDED
from fleet.errors import TaskNotFound
from fleet.runtime.user_settings import result_options
from fleet.services.run_ends import error_from
from fleet.state.records import TaskRecord

LOOK_SECONDS = 0.2
"""How often the records are looked at while somebody waits for one."""

STATES = {
    "running": states.STARTED,
    "succeeded": states.SUCCESS,
    "unverified": states.FAILURE,
    "failed": states.FAILURE,
    "cancelled": states.REVOKED,
}
"""Celery's state for one of a record; those that wait are pending."""


class RecordsToo:
    """What is added to a store of Celery's."""

    app: Any
    _cache: Any

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """What is known of a task's result: by Celery, or else by the fleet."""
        meta: dict[str, Any] = super().get_task_meta(task_id, cache)  # type: ignore[misc]
        if meta.get("status") != states.PENDING:
            return meta
        meta = self.recorded(task_id) or meta
        if cache and meta["status"] == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def recorded(self, task_id: str) -> dict[str, Any] | None:
        """A result as Celery would keep it, from the task's record; None where there is none, or
        where the task has not begun. One small read, and the record itself where it has ended."""
        try:
            state = self.app.fleet.tasks.state(str(task_id))
            if state not in STATES:
                return None
            record = self.app.fleet.tasks.read(str(task_id)) if state in ENDED else None
        except TaskNotFound:
            return None
        meta: dict[str, Any] = {"task_id": str(task_id), "traceback": None, "children": []}
        if record is None:
            return {**meta, "status": states.STARTED, "result": None}
        ended = datetime.fromtimestamp(record.ended or 0, UTC).isoformat()
        return {**meta, "status": STATES[record.state], "result": _told(record), "date_done": ended}

    def _mget_to_results(self, values: Any, keys: Any, *more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._mget_to_results(values, keys, *more)  # type: ignore[misc]
        for key in keys:
            meta = None if key in found else self.recorded(key)
            if meta is not None and meta["status"] in states.READY_STATES:
                found[key] = meta
        return found

    @cached_property
    def _transport_options(self) -> dict[str, Any]:
        of_user = self.app.conf.result_backend_transport_options or {}
        fleets = self.app.fleets_settings
        if self.app.conf.result_backend != fleets["result_backend"]:
            return dict(of_user)
        return result_options(fleets["result_backend_transport_options"], of_user)


class Consumer(ResultConsumer):
    """Waits for results. Celery says on a channel when it keeps one. Where a task has a record,
    that is looked at too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._awaited: set[str] = set()
        self._looked_at = float("-inf")

    def on_wait_for_pending(self, result: Any, **options: Any) -> None:
        super().on_wait_for_pending(result, **options)
        several = getattr(result, "results", None) or [result]
        # To ask a result whether it is ready would resolve it here, beside those that collect it.
        pending = {each.id for each in several if getattr(each, "_cache", None) is None}
        self._awaited |= {each for each in pending if self._has_record(each)}

    def drain_events(self, timeout: float | None = None) -> None:
        if not self._awaited:
            super().drain_events(timeout)
            return
        super().drain_events(LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for task_id in tuple(self._awaited):
            meta = self.backend.recorded(task_id)
            if meta is not None and meta["status"] in states.READY_STATES:
                self._awaited.discard(task_id)
                self.on_state_change(meta, None)

    def cancel_for(self, task_id: str) -> None:
        self._awaited.discard(task_id)
        super().cancel_for(task_id)

    def _has_record(self, task_id: str) -> bool:
        try:
            self.app.fleet.tasks.state(task_id)
        except TaskNotFound:
            return False
        return True


class RedisResults(RecordsToo, RedisBackend):
    """Results in Redis."""

    ResultConsumer = Consumer


class SentinelResults(RecordsToo, SentinelBackend):
    """Results in the Redis that Sentinels name."""

    ResultConsumer = Consumer


def _told(record: TaskRecord) -> Any:
    if record.state == "cancelled":
        why = record.history[-1].why if record.history else ""
        return TaskRevokedError(why or "the task was cancelled")
    if record.error is not None:
        return error_from(record.error, None)
    return record.result
