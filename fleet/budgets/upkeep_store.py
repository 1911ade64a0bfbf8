"""Keeps the book of money small, and finds what is held for nobody.

    prune.lua    drops hours, days and minutes that no limit looks at any more
    orphan.lua   gives back what is held for a task that has ended or is gone, which no script
                 leaves behind: a record that was deleted by hand, or evicted
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
"""Fields of the book that one script looks at: a millisecond or two."""

LOOKED_AT = {"reservations": 500, "open_steps": 200}
"""How many are looked at in a round, about. An open step is a kilobyte, a reservation 60 bytes."""


class UsageUpkeep(Store):
    """Prunes the book, and finds orphans: `ended` are the states in which a task holds nothing."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, ended: Container[str]) -> None:
        super().__init__(client, keys, scripts)
        self.ended = ended

    def prune(self) -> int:
        """Drop old fields of the book; how many there were. One call for each page of it.

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

    def give_back_orphans(self) -> list[str]:
        """Look at the next reservations and open steps, and give back those whose task has ended
        or is gone; the ids of those tasks.

        A round looks at some hundred of them, and the next one goes on from there, in whatever
        process: three calls, and one for each orphan.
        """
        seen: dict[str, set[str]] = {task_id: set() for task_id in self._page("reservations")}
        for name in self._page("open_steps"):
            task_id, _, call = name.rpartition(" ")
            seen.setdefault(task_id, set()).add(call)
        return [each for each in self._without_task(seen) if self._give_back(each, seen[each])]

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

    def _give_back(self, task_id: str, calls: Iterable[str]) -> bool:
        keys = [self.keys.task(task_id), self.keys.ledger, self.keys.money]
        keys += [self.keys.reservations, self.keys.open_steps]
        with redis_errors(self.client):
            return bool(self.scripts.orphan(keys=keys, args=[task_id, *sorted(calls)]))
