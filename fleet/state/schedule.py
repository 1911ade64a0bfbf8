"""The schedule: what waits for its time in Redis, and in no worker's memory.

Three sorted sets by when each member is due, in ms: delayed tasks, parked ones, and messages that
are no tasks of Fleet's. Workers and beat look into it (`fleet.services.parked`), each with one
short script.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.state.client import redis_errors
from fleet.state.scripts import text
from fleet.state.store import Store

TAKEN_MS = 5000
"""What a process has taken to queue it is looked at again so much later, should it have died."""
MOST = 1000


class Due(NamedTuple):
    """What is due: ids of delayed tasks, first due first; of parked ones; messages; and ids of
    running tasks whose lease has ended."""

    delayed: list[str]
    parked: list[str]
    messages: list[str]
    ended: list[str]


class Schedule(Store):
    """Takes what is due. Every method is one call to Redis unless it says more."""

    def due(self, most: int = MOST) -> Due:
        """What is due by Redis's clock. It is the caller's for 5 s: others are not given it, but
        for the leases that have ended."""
        keys = [self.keys.delayed, self.keys.parked, self.keys.deferred, self.keys.leases]
        with redis_errors(self.client):
            found: Any = self.scripts.due(keys=keys, args=[most, TAKEN_MS])
        return Due(*([text(member) for member in members] for members in found))

    def oldest_first(self, task_ids: Sequence[str]) -> list[str]:
        """The same ids by when their tasks were submitted."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for task_id in task_ids:
                pipeline.hget(self.keys.task(task_id), "submitted")
            times = pipeline.execute()
        ages = zip((int(time or 0) for time in times), task_ids, strict=True)
        return [task_id for _, task_id in sorted(ages)]

    def deliver(self, deferred: str) -> bool:
        """Publish a message that is due. Whether nobody has done it before."""
        queue, wake_list, message, *expires_ms = json.loads(deferred)
        keys = [self.keys.deferred, queue, wake_list]
        with redis_errors(self.client):
            done = bool(self.scripts.deliver(keys=keys, args=[deferred, message]))
            for each in expires_ms:
                self.client.pexpire(queue, each)
        return done


def deferred(queue: str, wake_list: str, message: str, expires_ms: int | None = None) -> str:
    """A message and where it goes, as it stands in the schedule; `expires_ms` is after how long a
    queue that nobody uses is dropped."""
    kept: list[str | int] = [queue, wake_list, message]
    return json.dumps(kept if expires_ms is None else [*kept, expires_ms])
