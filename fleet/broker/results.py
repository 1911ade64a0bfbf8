"""Celery's result store in Redis, which also knows the tasks of `Fleet.submit`.

Such a task asks for no result of Celery's: its end is in its record, and a second write would
cost every task. So an `AsyncResult` of its id is answered from the record, where Celery has kept
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend, ResultConsumer, SentinelBackend
from celery.exceptions import TaskRevokedError
from kombu.utils.objects import cached_property

from fleet.broker.user_settings import result_options
from fleet.errors import TaskNotFound
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.tasks.connection import Connection
from fleet.tasks.record import TaskRecord
from fleet.tasks.rules import ENDED
from fleet.tasks.run.outcome import error_from

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

NOTHING: Mapping[str, Any] = {"result": None, "traceback": None, "children": None}


class RecordsToo:
    """What is added to a store of Celery's."""

    app: Any
    _cache: Any
    task_result_exists: Any

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """What is known of a task's result: by Celery, or else by the fleet."""
        meta: dict[str, Any] = super().get_task_meta(task_id, cache)  # type: ignore[misc]
        if meta.get("status") != states.PENDING:
            return meta
        meta = self.recorded([task_id]).get(str(task_id), meta)
        if cache and meta["status"] == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def recorded(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Results as Celery would keep them, by id, of those that have begun by their records. One
        round trip for all, and two for each that has ended. One that Celery has kept something of,
        if only that it has started, asked for a result: that end is Celery's to tell."""
        found: dict[str, dict[str, Any]] = {}
        for task_id, state in recorded_states(self.app.fleet, task_ids).items():
            if state in ENDED:
                # Its record may expire at this moment.
                with suppress(TaskNotFound):
                    if not self.task_result_exists(task_id):
                        found[task_id] = _ended(self.app.fleet.tasks.records.read(task_id))
            elif state in STATES:
                found[task_id] = {**NOTHING, "task_id": task_id, "status": STATES[state]}
        return found

    def _mget_to_results(self, values: Any, keys: Any, *more: Any) -> dict[str, Any]:
        found: dict[str, Any] = super()._mget_to_results(values, keys, *more)  # type: ignore[misc]
        missing = [key for key in keys if key not in found]
        recorded = self.recorded(missing) if missing else {}
        ended = {key: meta for key, meta in recorded.items() if _is_end(meta)}
        return {**found, **ended}

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
        self._awaited |= recorded_states(self.app.fleet, pending).keys()

    def drain_events(self, timeout: float | None = None) -> None:
        if not self._awaited:
            super().drain_events(timeout)
            return
        super().drain_events(LOOK_SECONDS if timeout is None else min(timeout, LOOK_SECONDS))
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for task_id, meta in self.backend.recorded(tuple(self._awaited)).items():
            if _is_end(meta):
                self._awaited.discard(task_id)
                self.on_state_change(meta, None)

    def cancel_for(self, task_id: str) -> None:
        self._awaited.discard(task_id)
        super().cancel_for(task_id)


class RedisResults(RecordsToo, RedisBackend):
    """Results in Redis."""

    ResultConsumer = Consumer


class SentinelResults(RecordsToo, SentinelBackend):
    """Results in the Redis that Sentinels name."""

    ResultConsumer = Consumer


def recorded_states(fleet: Connection, task_ids: Iterable[str]) -> dict[str, str]:
    """The states of those that have a record, in one round trip."""
    ids = [str(each) for each in task_ids]
    with redis_errors(fleet.client):
        pipeline = fleet.client.pipeline(transaction=False)
        for task_id in ids:
            pipeline.hget(fleet.keys.task(task_id), "state")
        found = zip(ids, pipeline.execute() if ids else (), strict=True)
    return {task_id: text(state) for task_id, state in found if state is not None}


def _is_end(meta: Mapping[str, Any]) -> bool:
    return meta["status"] in states.READY_STATES


def _ended(record: TaskRecord) -> dict[str, Any]:
    ended = datetime.fromtimestamp(record.ended or 0, UTC).isoformat()
    told = {"status": STATES[record.state], "result": _told(record), "date_done": ended}
    return {**NOTHING, "task_id": record.id, **told}


def _told(record: TaskRecord) -> Any:
    if record.state == "cancelled":
        why = record.history[-1].why if record.history else ""
        return TaskRevokedError(why or "the task was cancelled")
    if record.error is not None:
        return error_from(record.error, None)
    return record.result
