"""The index of dead letters, by time of failure, and their records."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from fleet.errors import TaskNotFound
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store
from fleet.tasks.record import TaskRecord, parse_record

PAGE = 500

FIELDS = (
    *("state", "plan", "tenant", "pool", "agent", "submitted", "started", "ended", "attempts"),
    *("crashes", "retries", "cost_nanodollars", "input_tokens", "output_tokens", "error"),
    *("summary", "dead", "retry_of", "retried_as"),
)
"""The fields that a list of dead letters reads: without the message and the model calls."""


class Letter(NamedTuple):
    """A dead letter: its record, and its message as it was sent."""

    record: TaskRecord
    message: str


class DeadLetters(Store):
    """Reads and ends dead letters."""

    def count(self) -> int:
        """The number of dead letters."""
        with redis_errors(self.client):
            return int(self.client.zcard(self.keys.dead))

    def now(self) -> float:
        """Seconds since 1970 by Redis's clock."""
        return self.now_us() / 1e6

    def newest(self) -> Iterator[TaskRecord]:
        """All dead letters, newest first, without model calls and history. Two calls for each page.
        Concurrent removals may hide some, and concurrent additions may repeat some."""
        for start in count(step=PAGE):
            with redis_errors(self.client):
                ids = self.client.zrevrange(self.keys.dead, start, start + PAGE - 1)
            yield from self._read([text(each) for each in ids])
            if len(ids) < PAGE:
                return

    def letter(self, task_id: str) -> Letter:
        """One dead letter. One round trip. Raises `TaskNotFound`."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.zscore(self.keys.dead, task_id)
            pipeline.hgetall(self.keys.task(task_id))
            score, fields = pipeline.execute()
        if score is None or b"state" not in fields:
            raise TaskNotFound(f"{task_id} is not a dead letter; `fleet dead list` shows them")
        return Letter(parse_record(task_id, fields), text(fields.get(b"message", "")))

    def end(self, task_id: str, result_ttl: int, retried_as: str = "") -> bool:
        """Remove a dead letter that was dropped, or retried as `retried_as`; False if it was none.

        One call. The record is kept for `result_ttl` more seconds, without message and checkpoints.
        """
        other = retried_as or task_id
        keys = [self.keys.task(task_id), self.keys.dead, self.keys.task(other)]
        keys += [self.keys.saved(task_id), self.keys.saved(other)]
        with redis_errors(self.client):
            done = self.scripts.dead_done(keys=keys, args=[task_id, result_ttl, retried_as])
        return bool(done)

    def too_many(self, most: int) -> list[str]:
        """Ids of the oldest dead letters beyond the newest `most`."""
        with redis_errors(self.client):
            ids: Any = self.client.zrange(self.keys.dead, 0, -1 - most)
        return [text(each) for each in ids]

    def _read(self, ids: list[str]) -> Iterator[TaskRecord]:
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for task_id in ids:
                pipeline.hmget(self.keys.task(task_id), FIELDS)
            rows = pipeline.execute()
        for task_id, values in zip(ids, rows, strict=True):
            pairs = zip(FIELDS, values, strict=True)
            fields = {name: value for name, value in pairs if value is not None}
            if "state" in fields:
                yield parse_record(task_id, fields)
