"""The tasks whose message another broker has confirmed, and which of them it may have lost.

    handed over   the message is in the other broker's queue
    has left it   a worker has the message, or it is nowhere: the queue was purged or deleted, or
                  its node was wiped. A task that begins, or ends, is forgotten here
    missed        it has not begun in time: its message is queued in Redis again

The queue gives out first what it got first, so the number of its messages tells who has left it,
and nobody reads it (`lua/left.lua`). That is a little wrong where two have handed over at once: a
message comes twice then, of which one runs. Where the queue has other messages too, such as those
of plain Celery, who has left it is known when it has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, given, line, taken
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store

MOST_AT_ONCE = 1000
"""Of each queue; what is missed beyond that waits for the next time."""


class Look(NamedTuple):
    """How many tasks are handed over for a queue, the first of them in order, and when that was, in
    microseconds."""

    queue: str
    handed_over: int
    first: list[str]
    looked: int


class HandedOver(Store):
    """Looks after what was handed over. May run in many places at once and be killed anywhere."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, queues: Sequence[str]
    ) -> None:
        super().__init__(client, keys, scripts)
        self.queues = queues

    def look(self, queue: str) -> Look:
        """Look before the queue's messages are counted: what comes in between harms nothing."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline()
            pipeline.time()
            pipeline.zcard(given(queue))
            pipeline.zrange(given(queue), 0, MOST_AT_ONCE - 1)
            (seconds, micros), count, first = pipeline.execute()
        return Look(queue, count, [text(each) for each in first], seconds * 1_000_000 + micros)

    def left(self, look: Look, messages: int, patience_ms: int) -> int:
        """How many have left a queue that has so many messages, of those that were looked at."""
        keys = [given(look.queue), taken(look.queue), *map(self.keys.task, look.first)]
        arguments = [look.handed_over, messages, look.looked, patience_ms, *look.first]
        with redis_errors(self.client):
            return int(self.scripts.left(keys=keys, args=arguments))

    def resend(self, queue: str) -> list[str]:
        """Queue what has not begun in time to be handed over again; the ids. A call for each."""
        with redis_errors(self.client):
            now_ms = self.now_us() // 1000
            overdue = self.client.zrangebyscore(taken(queue), "-inf", now_ms, 0, MOST_AT_ONCE)
            ids = [text(each) for each in overdue]
            return [each for each in ids if self._resend(queue, each)]

    def _resend(self, queue: str, task_id: str) -> bool:
        keys = [self.keys.task(task_id), queue, line(queue), taken(queue), self.keys.outbox]
        keys += [each for name in self.queues for each in (line(name), given(name))]
        return bool(self.scripts.resend(keys=keys, args=[task_id]))

    def moved(self, queue: str, to: str, task_ids: Sequence[str]) -> None:
        """Note that messages were moved from one queue behind all others of another one."""
        if not task_ids:
            return
        with redis_errors(self.client):
            came = self.now_us()
            pipeline = self.client.pipeline()
            pipeline.zrem(given(queue), *task_ids)
            pipeline.zadd(given(to), {each: came + n for n, each in enumerate(task_ids)})
            pipeline.execute()
