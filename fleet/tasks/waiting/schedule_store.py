"""The schedule: what is delayed waits in Redis, not in a worker's memory.

Three sorted sets, scored by due time in ms: delayed tasks, tasks on hold, and delayed messages of
plain Celery. Workers and beat read it (`fleet.tasks.waiting.release`), each with one short script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.redis.client import redis_errors
from fleet.redis.scripts import raw, text
from fleet.redis.store import Store
from fleet.tasks.set_aside_store import SetAside

TAKEN_MS = 5000
"""A member that a process has taken is due again after this time, in case the process has died."""
MAX_DUE = 1000


class Due(NamedTuple):
    """What is due: ids of delayed tasks, earliest first; ids of tasks on hold; messages; and ids of
    running tasks whose lease has expired."""

    delayed: list[str]
    on_hold: list[str]
    messages: list[bytes]
    ended: list[str]


class Schedule(Store):
    """Takes what is due. Every method is one call to Redis unless it says more."""

    def due(self, most: int = MAX_DUE) -> Due:
        """Take what is due by Redis's clock, at most `most` of each kind.

        Other callers do not get it for 5 s, except expired leases.
        """
        keys = [self.keys.delayed, self.keys.parked, self.keys.deferred, self.keys.leases]
        with redis_errors(self.client):
            found: Any = self.scripts.due(keys=keys, args=[most, TAKEN_MS])
        delayed, parked, messages, ended = found
        return Due(
            [text(each) for each in delayed],
            [text(each) for each in parked],
            [raw(each) for each in messages],
            [text(each) for each in ended],
        )

    def oldest_first(self, task_ids: Sequence[str]) -> list[str]:
        """The same ids, earliest submission first."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for task_id in task_ids:
                pipeline.hget(self.keys.task(task_id), "submitted")
            times = pipeline.execute()
        ages = zip((int(time or 0) for time in times), task_ids, strict=True)
        return [task_id for _, task_id in sorted(ages)]

    def deliver(self, deferred: bytes) -> bool:
        """Publish a delayed message; False if it was already published.

        A malformed member is set aside, so that it does not block the others.
        """
        try:
            queue, wake_list, message, expires_ms = _parts(deferred)
        except (ValueError, RecursionError) as error:
            SetAside(self.client, self.keys, self.scripts).keep_due(deferred, str(error))
            return False
        keys = [self.keys.deferred, queue, wake_list]
        with redis_errors(self.client):
            done = bool(self.scripts.deliver(keys=keys, args=[deferred, message]))
            if expires_ms is not None:
                self.client.pexpire(queue, expires_ms)
        return done


def deferred(queue: str, wake_list: str, message: str, expires_ms: int | None = None) -> str:
    """A message and its destination, in the form stored in the schedule. `expires_ms` is how long
    an unused queue is kept."""
    kept: list[str | int] = [queue, wake_list, message]
    return json.dumps(kept if expires_ms is None else [*kept, expires_ms])


def _parts(deferred: bytes) -> tuple[str, str, str, int | None]:
    """Parse the stored form: queue, wake list, message and the queue's `expires_ms`. Raises
    `ValueError` if it is malformed."""
    found = json.loads(deferred)
    kept, rest = (found[:3], found[3:]) if isinstance(found, list) else ([], [])
    is_kept = len(kept) == 3 and all(isinstance(each, str) and each for each in kept)
    is_time = not rest or (len(rest) == 1 and type(rest[0]) is int and rest[0] > 0)
    if not is_kept or not is_time:
        raise ValueError("it is no message and the queue that it is due in")
    for each in kept:
        each.encode()
    return kept[0], kept[1], kept[2], rest[0] if rest else None
