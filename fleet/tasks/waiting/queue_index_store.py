"""Finds what has no holder: messages that are in no queue, and slots.

Each queue has its line (`lua/parts/queue_index.lua`): who is in it, in its order. It moves with the
messages, in the same scripts. So whoever has a lower number than those at the front of the queue
has no message in it, and no queue is searched: see `lua/missing.lua`. A task that was fetched holds
a slot; `lua/repair.lua` looks for its message among those that workers hold.

All of it may run in several places at once, and be killed anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis import Redis
from redis.client import Pipeline

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, PoolKeys, line, lists, wake, whole
from fleet.redis.scripts import Scripts, raw, text
from fleet.redis.store import Store
from fleet.tasks.set_aside_store import SetAside

MAX_MISSING = 2000
"""Looked for in each list at a time. What is missing beyond that is found when those that were put
in front of it are taken."""


MAX_RESTORED = 1000


class Missing(NamedTuple):
    """A task that stands in a line and has no message in the queue; `number` is its own there."""

    task_id: str
    number: str
    queue: str
    pool: str


class Waiting(NamedTuple):
    """The messages that wait in a queue. `oldest_seconds` is how long ago the oldest of its agents'
    tasks came to the queue, or came back to it; None where it has none."""

    messages: int
    oldest_seconds: float | None


class QueueIndex(Store):
    """Looks at lines and slots. `queues` have their pool, '' for overflow ones."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, queues: Mapping[str, str]
    ) -> None:
        super().__init__(client, keys, scripts)
        self.queues = queues

    def waiting(self) -> dict[str, Waiting]:
        """What waits in each queue, all at one moment. One round trip."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.time()
            for queue in self.queues:
                for each in lists(queue):
                    pipeline.llen(each)
                    _first(pipeline, line(each))
            (seconds, us), *answers = pipeline.execute()
        size = len(answers) // max(1, len(self.queues))
        parts = (answers[start : start + size] for start in range(0, len(answers), size))
        now_us = seconds * 1_000_000 + us
        found = zip(self.queues, parts, strict=True)
        return {queue: _waiting(now_us, part) for queue, part in found}

    def missing(self) -> list[Missing]:
        """Tasks whose message is gone, in each list who came last first: each is to be put in front
        of those that came after it. One round trip."""
        places = [(each, pool) for queue, pool in self.queues.items() for each in lists(queue)]
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for queue, _ in places:
                self.scripts.missing(
                    keys=[queue, line(queue)], args=[MAX_MISSING], client=pipeline
                )
            answers = pipeline.execute()
        return [
            Missing(text(task_id), text(number), queue, pool)
            for (queue, pool), found in zip(places, answers, strict=True)
            for task_id, number in reversed(list(zip(found[::2], found[1::2], strict=True)))
        ]

    def republish(self, missing: Missing, most: int, error: str, dead_ttl: int) -> str:
        """Publish the message again: see the head of `lua/republish.lua`. One that was lost too
        often is a dead letter, whose record is kept for `dead_ttl` seconds."""
        task_id, number, queue, pool = missing
        keys = [self.keys.task(task_id), queue, wake(whole(queue)), line(queue)]
        keys += [self.keys.pool(pool).in_flight, self.keys.done(task_id)]
        keys += [self.keys.money, self.keys.reservations, self.keys.waiting, self.keys.dead]
        keys.append(self.keys.saved(task_id))
        arguments: list[str | int] = [task_id, number, most, error, dead_ttl]
        with redis_errors(self.client):
            return text(self.scripts.republish(keys=keys, args=arguments))

    def restore(self, pool: str, dead_after_ms: int) -> list[str]:
        """Put back what a pool's workers took and did not claim, where all of them are dead; the
        ids of its tasks. A call for each message."""
        with redis_errors(self.client):
            overdue = self._overdue(self.keys.pool(pool), dead_after_ms)
            found = [self._put_back(pool, dead_after_ms, *each) for each in overdue]
        return [task_id for task_id in found if task_id]

    def _overdue(self, held: PoolKeys, dead_after_ms: int) -> list[tuple[str, bytes]]:
        """Delivery tags and what is noted of them."""
        before = self.now_us() / 1e6 - dead_after_ms / 1000
        found = self.client.zrangebyscore(held.unacked_index, 0, before, 0, MAX_RESTORED)
        tags = [text(tag) for tag in found]
        noted = self.client.hmget(held.unacked, tags) if tags else []
        return [(tag, raw(each)) for tag, each in zip(tags, noted, strict=True) if each]

    def _put_back(self, pool: str, dead_after_ms: int, tag: str, noted: bytes) -> str:
        """The task whose message was put back; '' where there is none."""
        held = self.keys.pool(pool)
        try:
            message, queue, task_id = _noted(noted)
        except (ValueError, RecursionError) as error:
            reason = f"it cannot go back to its queue: {error}"
            aside = SetAside(self.client, self.keys, self.scripts)
            aside.keep_noted(held.unacked, held.unacked_index, tag, noted, reason)
            return ""
        keys = [held.agents, held.unacked, held.unacked_index, held.in_flight]
        keys += [queue, wake(queue), line(queue)]
        is_ours = queue.startswith(f"{self.keys.tag}.")
        arguments: list[str | int] = [tag, json.dumps(message)]
        arguments += [task_id if queue in self.queues else "", dead_after_ms, int(is_ours)]
        return task_id if self.scripts.restore(keys=keys, args=arguments) else ""

    def recount_waiting(self) -> bool:
        """Drop the counts of waiting tasks while nobody waits; whether there were any."""
        keys = [self.keys.waiting, self.keys.delayed, self.keys.parked]
        keys += [line(each) for queue in self.queues for each in lists(queue)]
        keys += [self.keys.pool(pool).in_flight for pool in self.queues.values() if pool]
        with redis_errors(self.client):
            return bool(self.scripts.recount(keys=keys))

    def repair(self, pool: str, queue: str) -> list[str]:
        """Free slots of a pool that are held by tasks which are not in it any more; their ids.

        A task of it whose message was lost is missing from its line afterwards. Two calls.
        """
        in_flight = self.keys.pool(pool).in_flight
        others = [each for name in self.queues for each in lists(name) if each != queue]
        pools = [self.keys.pool(name).unacked for name in self.queues.values() if name]
        with redis_errors(self.client):
            ids: list[bytes] = [raw(task_id) for task_id in self.client.smembers(in_flight)]
            if not ids:
                return []
            keys = [in_flight, line(queue), *map(line, others), *pools]
            keys += [self.keys.task(text(each)) for each in ids]
            arguments: list[str | int | bytes] = [pool, len(others), len(pools), *ids]
            freed: Any
            freed, _ = self.scripts.repair(keys=keys, args=arguments)
        return [text(task_id) for task_id in freed]


def free_slot(
    scripts: Scripts, keys: Keys, task_id: str, pool: str, client: Redis | None = None
) -> None:
    """Free the slot that a delivery took, where the task does not run in the pool. One call, or one
    command of the pipeline `client`."""
    names = [keys.pool(pool).in_flight, keys.task(task_id)]
    scripts.free_slot(keys=names, args=[task_id, pool], client=client)


def _first(pipeline: Pipeline, index: str) -> None:
    """Ask which task came to a queue first, in front of all others and behind them: see
    `lua/parts/queue_index.lua`."""
    pipeline.zrevrangebyscore(index, "(0", "-inf", 0, 1, withscores=True)
    pipeline.zrangebyscore(index, 0, "+inf", 0, 1, withscores=True)


def _waiting(now_us: int, answers: Sequence[Any]) -> Waiting:
    """The figures of one queue from the three answers for each of its lists."""
    came = [abs(score) for found in answers if isinstance(found, list) for _, score in found]
    oldest = max(0.0, (now_us - min(came)) / 1e6) if came else None
    return Waiting(sum(each for each in answers if isinstance(each, int)), oldest)


def _noted(noted: bytes) -> tuple[dict[str, Any], str, str]:
    """A message that a worker held, the queue that it came from, and its task, '' for one of none.

    Raises `ValueError` for what is no such thing.
    """
    found = json.loads(noted)
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError("it is noted as something else than a message and where it came from")
    message, _, queue = found
    if not isinstance(message, dict) or not isinstance(queue, str) or not queue:
        raise ValueError("it is no JSON object, or is noted under no queue")
    headers = message.get("headers")
    task_id = headers.get("id") if isinstance(headers, dict) else None
    return message, queue, task_id if isinstance(task_id, str) else ""
