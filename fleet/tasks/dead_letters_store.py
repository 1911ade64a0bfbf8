"""Dead letters: tasks that failed for good, by when, and their records, kept to be retried."""

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
"""What is read of a dead letter in a list: not its message, nor its steps."""


class Letter(NamedTuple):
    """What a dead letter is retried by: its record, and its message as it was sent."""

    record: TaskRecord
    message: str


class DeadLetters(Store):
    """Reads and ends dead letters."""

    def count(self) -> int:
        """How many there are."""
        with redis_errors(self.client):
            return int(self.client.zcard(self.keys.dead))

    def now(self) -> float:
        """Seconds since 1970 by Redis's clock."""
        return self.now_us() / 1e6

    def newest(self) -> Iterator[TaskRecord]:
        """All of them, newest first, without steps and history. Two calls for each page. Where
        some are ended meanwhile, others may be missed, or come twice where some are added."""
        for start in count(step=PAGE):
            with redis_errors(self.client):
                ids = self.client.zrevrange(self.keys.dead, start, start + PAGE - 1)
            yield from self._read([text(each) for each in ids])
            if len(ids) < PAGE:
                return

    def letter(self, task_id: str) -> Letter:
        """One of them. Two calls. Raises `TaskNotFound`."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.zscore(self.keys.dead, task_id)
            pipeline.hgetall(self.keys.task(task_id))
            score, fields = pipeline.execute()
        if score is None or b"state" not in fields:
            raise TaskNotFound(
                f"{task_id} is no dead letter; `fleet dead list` has those there are"
            )
        return Letter(parse_record(task_id, fields), text(fields.get(b"message", "")))

    def end(self, task_id: str, result_ttl: int, retried_as: str = "") -> bool:
        """Take a task off the dead letters: dropped, or retried as another one. Whether it was one.

        One call. Its record is kept for `result_ttl` seconds more, without its message and what it
        has saved.
        """
        other = retried_as or task_id
        keys = [self.keys.task(task_id), self.keys.dead, self.keys.task(other)]
        keys += [self.keys.saved(task_id), self.keys.saved(other)]
        with redis_errors(self.client):
            done = self.scripts.dead_done(keys=keys, args=[task_id, result_ttl, retried_as])
        return bool(done)

    def too_many(self, most: int) -> list[str]:
        """Ids of the oldest, as many as there are over `most`."""
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
