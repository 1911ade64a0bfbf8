"""The index of each queue: its depth, the age of its oldest task, lost messages, leaked slots.

Each queue has an index (`lua/parts/queue_index.lua`): its task ids in the queue's order. The
scripts that move messages update it. So a task with a lower number than those at the front of the
queue has no message in it, and no queue is searched: see `lua/missing.lua`. A fetched task holds a
slot; `lua/repair.lua` looks for its message among those that workers hold.

Every method may run in several processes at once, and be killed anywhere.
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
"""Tasks that one call finds in each list. Later calls find the rest, once workers have taken the
republished ones."""

MAX_RESTORED = 1000


class Missing(NamedTuple):
    """A task in a queue index without a message in the queue; `number` is its position number."""

    task_id: str
    number: str
    queue: str
    pool: str


class Waiting(NamedTuple):
    """The number of messages in a queue. `oldest_seconds` is the time since its oldest agent task
    was queued, or requeued; None without such a task."""

    messages: int
    oldest_seconds: float | None


class QueueIndex(Store):
    """Checks queue indexes and slots. `queues` maps each queue to its pool, '' for overflow
    queues."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, queues: Mapping[str, str]
    ) -> None:
        super().__init__(client, keys, scripts)
        self.queues = queues

    def waiting(self) -> dict[str, Waiting]:
        """What waits in each queue, as one consistent snapshot. One round trip."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=True)
            pipeline.time()
            self.add_waiting(pipeline)
            (seconds, us), *answers = pipeline.execute()
        return self.parse_waiting(seconds * 1_000_000 + us, answers)

    def add_waiting(self, pipeline: Pipeline) -> None:
        """Add the commands of `waiting` to a pipeline."""
        for queue in self.queues:
            for each in lists(queue):
                pipeline.llen(each)
                _first(pipeline, line(each))

    def parse_waiting(self, now_us: int, answers: Sequence[Any]) -> dict[str, Waiting]:
        """What waits in each queue, from the answers to the commands of `add_waiting`."""
        size = len(answers) // max(1, len(self.queues))
        parts = (answers[start : start + size] for start in range(0, len(answers), size))
        found = zip(self.queues, parts, strict=True)
        return {queue: _waiting(now_us, part) for queue, part in found}

    def missing(self) -> list[Missing]:
        """Tasks whose message is lost, for each list the last queued first, so that republishing
        each at the front restores the order. One round trip."""
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
        """Publish a lost message again. `lua/republish.lua` lists the answers.

        After `most` losses the task becomes a dead letter with `error`, as JSON, and its record is
        kept for `dead_ttl` seconds.
        """
        task_id, number, queue, pool = missing
        keys = [self.keys.task(task_id), queue, wake(whole(queue)), line(queue)]
        keys += [self.keys.pool(pool).in_flight, self.keys.done(task_id)]
        keys += [self.keys.money, self.keys.reservations, self.keys.waiting, self.keys.dead]
        keys.append(self.keys.saved(task_id))
        arguments: list[str | int] = [task_id, number, most, error, dead_ttl]
        with redis_errors(self.client):
            return text(self.scripts.republish(keys=keys, args=arguments))

    def restore(self, pool: str, dead_after_ms: int) -> list[str]:
        """Return unclaimed messages of a pool to their queue, if all its workers are dead; the ids
        of their tasks. One call for each message."""
        with redis_errors(self.client):
            overdue = self._overdue(self.keys.pool(pool), dead_after_ms)
            found = [self._put_back(pool, dead_after_ms, *each) for each in overdue]
        return [task_id for task_id in found if task_id]

    def _overdue(self, held: PoolKeys, dead_after_ms: int) -> list[tuple[str, bytes]]:
        """Delivery tags with their stored messages."""
        before = self.now_us() / 1e6 - dead_after_ms / 1000
        found = self.client.zrangebyscore(held.unacked_index, 0, before, 0, MAX_RESTORED)
        tags = [text(tag) for tag in found]
        noted = self.client.hmget(held.unacked, tags) if tags else []
        return [(tag, raw(each)) for tag, each in zip(tags, noted, strict=True) if each]

    def _put_back(self, pool: str, dead_after_ms: int, tag: str, noted: bytes) -> str:
        """Return one message to its queue; its task, or '' if nothing was returned."""
        held = self.keys.pool(pool)
        try:
            message, queue, task_id = _noted(noted)
        except (ValueError, RecursionError) as error:
            reason = f"it cannot return to its queue: {error}"
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
        """Reset the counts of waiting tasks if no task waits; whether there were any counts."""
        keys = [self.keys.waiting, self.keys.delayed, self.keys.parked]
        keys += [line(each) for queue in self.queues for each in lists(queue)]
        keys += [self.keys.pool(pool).in_flight for pool in self.queues.values() if pool]
        with redis_errors(self.client):
            return bool(self.scripts.recount(keys=keys))

    def repair(self, pool: str, queue: str) -> list[str]:
        """Free the slots of a pool that are held by tasks no longer in it; their ids. Two calls.

        A task of the pool whose message was lost is then reported by `missing`.
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
    """Read both ends of a queue index for its oldest task: see `lua/parts/queue_index.lua`."""
    pipeline.zrevrangebyscore(index, "(0", "-inf", 0, 1, withscores=True)
    pipeline.zrangebyscore(index, 0, "+inf", 0, 1, withscores=True)


def _waiting(now_us: int, answers: Sequence[Any]) -> Waiting:
    """Parse the figures of one queue from the three answers for each of its lists."""
    came = [abs(score) for found in answers if isinstance(found, list) for _, score in found]
    oldest = max(0.0, (now_us - min(came)) / 1e6) if came else None
    return Waiting(sum(each for each in answers if isinstance(each, int)), oldest)


def _noted(noted: bytes) -> tuple[dict[str, Any], str, str]:
    """Parse an unacknowledged message: the message, its queue, and its task or ''.

    Raises `ValueError` if it is malformed.
    """
    found = json.loads(noted)
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError("it is stored as something other than a message and its origin")
    message, _, queue = found
    if not isinstance(message, dict) or not isinstance(queue, str) or not queue:
        raise ValueError("it is no JSON object, or has no queue")
    headers = message.get("headers")
    task_id = headers.get("id") if isinstance(headers, dict) else None
    return message, queue, task_id if isinstance(task_id, str) else ""
