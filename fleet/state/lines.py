"""Finds what has no holder: messages that are in no queue, and slots.

Each queue has its line (`lua/parts/line.lua`): who is in it, in its order. It moves with the
messages, in the same scripts. So whoever has a lower number than those at the front of the queue
has no message in it, and no queue is searched: see `lua/missing.lua`. A task that was fetched holds
a slot; `lua/repair.lua` looks for its message among those that workers hold.

All of it may run in several places at once, and be killed anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from redis import Redis

from fleet.state.client import redis_errors
from fleet.state.keys import Keys, line, lists, wake, whole
from fleet.state.scripts import Scripts, text
from fleet.state.store import Store

MOST_MISSING = 2000
"""Looked for in each list at a time. What is missing beyond that is found when those that were put
in front of it are taken."""


class Missing(NamedTuple):
    """A task that stands in a line and has no message in the queue; `number` is its own there."""

    task_id: str
    number: str
    queue: str
    pool: str


class Lines(Store):
    """Looks at lines and slots. `queues` have their pool, '' for overflow ones. With `elsewhere`
    another broker carries the messages: none is missed that it has confirmed."""

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        scripts: Scripts,
        queues: Mapping[str, str],
        elsewhere: bool = False,
    ) -> None:
        super().__init__(client, keys, scripts)
        self.queues = queues
        self.elsewhere = elsewhere

    def missing(self) -> list[Missing]:
        """Tasks whose message is gone, in each list who came last first: each is to be put in front
        of those that came after it. One round trip."""
        places = [(each, pool) for queue, pool in self.queues.items() for each in lists(queue)]
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for queue, _ in places:
                self.scripts.missing(
                    keys=[queue, line(queue)], args=[MOST_MISSING], client=pipeline
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

    def repair(self, pool: str, queue: str) -> list[str]:
        """Free slots of a pool that are held by tasks which are not in it any more; their ids.

        A task of it whose message was lost is missing from its line afterwards. Two calls.
        """
        in_flight = self.keys.pool(pool).in_flight
        others = [each for name in self.queues for each in lists(name) if each != queue]
        pools = [self.keys.pool(name).unacked for name in self.queues.values() if name]
        with redis_errors(self.client):
            ids = [text(task_id) for task_id in self.client.smembers(in_flight)]
            if not ids:
                return []
            keys = [in_flight, line(queue), *map(line, others), *pools]
            keys += map(self.keys.task, ids)
            counts = (len(others), len(pools), int(self.elsewhere))
            arguments: list[str | int] = [pool, *counts, *ids]
            freed: Any
            freed, _ = self.scripts.repair(keys=keys, args=arguments)
        return [text(task_id) for task_id in freed]
