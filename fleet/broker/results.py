"""Celery's result backend in Redis, which also answers for the tasks of `Fleet.submit`.

Such a task stores no result of Celery's: its record holds the outcome, and a second write would
cost every task time. If Celery has stored nothing, an `AsyncResult` is answered from the record.
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

POLL_SECONDS = 0.2
"""Between two polls of the records while a caller waits for a result."""

STATES = {
    "running": states.STARTED,
    "succeeded": states.SUCCESS,
    "unverified": states.FAILURE,
    "failed": states.FAILURE,
    "cancelled": states.REVOKED,
}
"""Celery's state for each state of a record; all other states are pending."""

EMPTY_META: Mapping[str, Any] = {"result": None, "traceback": None, "children": None}


class RecordResults:
    """A mixin for a result backend of Celery's: it adds the results in records."""

    app: Any
    _cache: Any
    task_result_exists: Any

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """A task's result: Celery's, or else that of its record."""
        meta: dict[str, Any] = super().get_task_meta(task_id, cache)  # type: ignore[misc]
        if meta.get("status") != states.PENDING:
            return meta
        meta = self.recorded([task_id]).get(str(task_id), meta)
        if cache and meta["status"] == states.SUCCESS:
            self._cache[task_id] = meta
        return meta

    def recorded(self, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Results in Celery's form, by id, of the tasks that have begun by their records. One round
        trip for all, and two for each that has ended. If Celery has stored anything of a task, such
        as its start, the task has a Celery result: its outcome is then read from Celery only."""
        found: dict[str, dict[str, Any]] = {}
        for task_id, state in recorded_states(self.app.fleet, task_ids).items():
            if state in ENDED:
                # The record may expire between the two reads.
                with suppress(TaskNotFound):
                    if not self.task_result_exists(task_id):
                        found[task_id] = _ended(self.app.fleet.tasks.records.read(task_id))
            elif state in STATES:
                found[task_id] = {**EMPTY_META, "task_id": task_id, "status": STATES[state]}
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
        defaults = self.app.fleet_defaults
        if self.app.conf.result_backend != defaults["result_backend"]:
            return dict(of_user)
        return result_options(defaults["result_backend_transport_options"], of_user)


class Consumer(ResultConsumer):
    """Waits for results. Celery publishes on a channel when it stores one. The record of a task, if
    it has one, is polled too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._awaited: set[str] = set()
        self._polled_at = float("-inf")

    def on_wait_for_pending(self, result: Any, **options: Any) -> None:
        super().on_wait_for_pending(result, **options)
        several = getattr(result, "results", None) or [result]
        # `ready()` would resolve the result here, at the same time as the caller that collects it.
        pending = {each.id for each in several if getattr(each, "_cache", None) is None}
        self._awaited |= recorded_states(self.app.fleet, pending).keys()

    def drain_events(self, timeout: float | None = None) -> None:
        if not self._awaited:
            super().drain_events(timeout)
            return
        super().drain_events(POLL_SECONDS if timeout is None else min(timeout, POLL_SECONDS))
        now = time.monotonic()
        if now - self._polled_at < POLL_SECONDS:
            return
        self._polled_at = now
        for task_id, meta in self.backend.recorded(tuple(self._awaited)).items():
            if _is_end(meta):
                self._awaited.discard(task_id)
                self.on_state_change(meta, None)

    def cancel_for(self, task_id: str) -> None:
        self._awaited.discard(task_id)
        super().cancel_for(task_id)


class RedisResults(RecordResults, RedisBackend):
    """Results in Redis."""

    ResultConsumer = Consumer


class SentinelResults(RecordResults, SentinelBackend):
    """Results in the Redis that Sentinels name as master."""

    ResultConsumer = Consumer


def recorded_states(fleet: Connection, task_ids: Iterable[str]) -> dict[str, str]:
    """The states of those tasks that have a record, by id, in one round trip."""
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
    found = {"status": STATES[record.state], "result": _result_of(record), "date_done": ended}
    return {**EMPTY_META, "task_id": record.id, **found}


def _result_of(record: TaskRecord) -> Any:
    if record.state == "cancelled":
        why = record.history[-1].why if record.history else ""
        return TaskRevokedError(why or "the task was cancelled")
    if record.error is not None:
        return error_from(record.error, None)
    return record.result
