"""The schedule: what waits for its time in Redis, and in no worker's memory.

Three sorted sets by when each member is due, in ms: delayed tasks, parked ones, and messages that
are no tasks of Fleet's. Workers and beat look into it (`fleet.tasks.waiting.release`), each with
one short script.
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
"""What a process has taken to queue it is looked at again so much later, should it have died."""
MOST = 1000


class Due(NamedTuple):
    """What is due: ids of delayed tasks, first due first; of parked ones; messages; and ids of
    running tasks whose lease has ended."""

    delayed: list[str]
    parked: list[str]
    messages: list[bytes]
    ended: list[str]


class Schedule(Store):
    """Takes what is due. Every method is one call to Redis unless it says more."""

    def due(self, most: int = MOST) -> Due:
        """What is due by Redis's clock. It is the caller's for 5 s: others are not given it, but
        for the leases that have ended."""
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
        """The same ids by when their tasks were submitted."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for task_id in task_ids:
                pipeline.hget(self.keys.task(task_id), "submitted")
            times = pipeline.execute()
        ages = zip((int(time or 0) for time in times), task_ids, strict=True)
        return [task_id for _, task_id in sorted(ages)]

    def deliver(self, deferred: bytes) -> bool:
        """Publish a message that is due. Whether nobody has done it before.

        What is no such message is set aside: it must not keep the others from being published.
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
    """A message and where it goes, as it stands in the schedule; `expires_ms` is after how long a
    queue that nobody uses is dropped."""
    kept: list[str | int] = [queue, wake_list, message]
    return json.dumps(kept if expires_ms is None else [*kept, expires_ms])


def _parts(deferred: bytes) -> tuple[str, str, str, int | None]:
    """Queue, wake list, message and the queue's `expires_ms`. Raises `ValueError` for what
    `deferred` has not written."""
    found = json.loads(deferred)
    kept, rest = (found[:3], found[3:]) if isinstance(found, list) else ([], [])
    is_kept = len(kept) == 3 and all(isinstance(each, str) and each for each in kept)
    is_time = not rest or (len(rest) == 1 and type(rest[0]) is int and rest[0] > 0)
    if not is_kept or not is_time:
        raise ValueError("it is no message and the queue that it is due in")
    for each in kept:
        each.encode()
    return kept[0], kept[1], kept[2], rest[0] if rest else None
