"""Keeps the usage counters small, and releases orphaned reservations.

    prune.lua    drops hours, days and minutes that no limit needs any more
    orphan.lua   releases the reservation of a task that has ended or is gone. No script leaves one
                 behind; the record was deleted by hand, or evicted
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any

from redis import Redis

from fleet.budgets.rules.usage_counters import DAYS_KEPT, HOURS_KEPT_DAYS
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store

PAGE = 500
"""The number of counters that one script checks: a millisecond or two."""

LOOKED_AT = {"reservations": 500, "open_steps": 200}
"""The approximate number checked in a round. A call in flight takes a kilobyte, a reservation 60
bytes."""


class UsageUpkeep(Store):
    """Prunes the counters and finds orphans. `ended` are the states of a task without a
    reservation."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, ended: Container[str]) -> None:
        super().__init__(client, keys, scripts)
        self.ended = ended

    def prune(self) -> int:
        """Drop old counters. Returns how many. One call for each page.

        May run in several places at once and be killed anywhere: each page is one script.
        """
        dropped, cursor = 0, "0"
        while True:
            arguments: list[str | int] = [cursor, PAGE, HOURS_KEPT_DAYS, DAYS_KEPT]
            with redis_errors(self.client):
                found = self.scripts.prune(keys=[self.keys.money], args=arguments)
            cursor, dropped = text(found[0]), dropped + int(found[1])
            if cursor == "0":
                return dropped

    def release_orphans(self) -> list[str]:
        """Check the next reservations and calls in flight, and release those whose task has ended
        or is gone. Returns the ids of these tasks.

        A round checks some hundred of them. The next round continues there, in any process. Three
        calls, and one for each orphan.
        """
        seen: dict[str, set[str]] = {task_id: set() for task_id in self._page("reservations")}
        for name in self._page("open_steps"):
            task_id, _, call = name.rpartition(" ")
            seen.setdefault(task_id, set()).add(call)
        return [each for each in self._without_task(seen) if self.release(each, seen[each])]

    def _page(self, kind: str) -> Iterator[str]:
        key = getattr(self.keys, kind)
        with redis_errors(self.client):
            cursor = int(self.client.hget(self.keys.orphans, kind) or 0)
            found: Any = self.client.hscan(key, cursor, count=LOOKED_AT[kind])
            self.client.hset(self.keys.orphans, kind, found[0])
        return map(text, found[1])

    def _without_task(self, ids: Iterable[str]) -> list[str]:
        names = list(ids)
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for task_id in names:
                pipeline.hget(self.keys.task(task_id), "state")
            states = pipeline.execute()
        return [
            task_id
            for task_id, state in zip(names, states, strict=True)
            if state is None or text(state) in self.ended
        ]

    def release(self, task_id: str, calls: Iterable[str]) -> bool:
        """Release the reservation of a task that has ended or is gone, and charge its `calls`.
        Returns whether there was any. One call."""
        keys = [self.keys.task(task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps]
        with redis_errors(self.client):
            return bool(self.scripts.orphan(keys=keys, args=[task_id, *sorted(calls)]))
