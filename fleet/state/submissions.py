"""The atomic step of a submission, alone or many in one round trip.

The step is `lua/submit.lua`: refuse a duplicate, take a slot in the best-ranked pool that
has room or wait in the overflow queue, write the record, push the message. What it needs
is prepared by the caller, so that nothing is computed twice inside Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from fleet.state.client import redis_errors
from fleet.state.keys import Keys, wake
from fleet.state.scripts import Scripts, text
from fleet.state.store import Store

ONCE_SECONDS = 86400
"""How long an idempotency key is remembered: a day, as payment providers do."""


MOST_IN_A_SCRIPT = 100
"""Some 25 us of Redis's time each: longer scripts would hold up others."""


@dataclass(frozen=True, slots=True)
class Route:
    """The part of the step that submissions of one plan share: keys, and the rules as text."""

    keys: tuple[str, ...]
    rules: str
    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One task, ready to be written. `plan` is kept with it and explains it later."""

    task_id: str
    message: str
    route: Route
    plan: str
    tenant: str
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """What the step did: see the head of `lua/submit.lua` for `status` and `detail`."""

    status: str
    detail: str
    loads: str


class Submissions(Store):
    """Sends entries to Redis."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, dead_after_seconds: float
    ) -> None:
        super().__init__(client, keys, scripts)
        self.dead_after_ms = int(dead_after_seconds * 1000)

    def route(
        self,
        overflow_queue: str,
        rules: Sequence[tuple[str, str, float, float, float]],
    ) -> Route:
        """Lay out pools given as (name, queue, base, per task, per load)."""
        keys = [overflow_queue, wake(overflow_queue)]
        rows = []
        for name, queue, base, per_task, per_load in rules:
            pool = self.keys.pool(name)
            keys += [pool.facts, pool.agents, pool.in_flight, queue, wake(queue)]
            rows.append(f"{name},{base!r},{per_task!r},{per_load!r}")
        return Route(tuple(keys), ";".join(rows), tuple(rule[0] for rule in rules))

    def place(self, entry: Entry) -> Placed:
        """Submit one task, in one round trip."""
        with redis_errors(self.client):
            (answer,) = self._submit([entry], None)
        return _placed(answer)

    def place_many(self, entries: Sequence[Entry]) -> list[Placed]:
        """Submit many tasks in one round trip: those in a row that share a plan in one script."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            for group in _groups(entries):
                self._submit(group, pipeline)
            return [_placed(answer) for answers in pipeline.execute() for answer in answers]

    def _submit(self, entries: Sequence[Entry], client: Redis | None) -> Any:
        shared = entries[0]
        keys = [self.keys.tasks, *shared.route.keys]
        arguments: list[str | int] = [
            self.dead_after_ms,
            shared.plan,
            len(shared.route.pools),
            shared.route.rules,
        ]
        for entry in entries:
            keys += self._task_keys(entry)
            keep = ONCE_SECONDS if entry.idempotency_key else 0
            arguments += [entry.task_id, entry.message, entry.tenant, keep, entry.fingerprint]
        return self.scripts.submit(keys=keys, args=arguments, client=client)

    def _task_keys(self, entry: Entry) -> tuple[str, str]:
        record = self.keys.task(entry.task_id)
        if entry.idempotency_key is None:
            return record, record
        return record, self.keys.once(entry.tenant, entry.idempotency_key)


def _groups(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Runs of entries that share a plan, short enough not to hold up others in Redis."""
    start = 0
    for end in range(1, len(entries) + 1):
        full = end - start == MOST_IN_A_SCRIPT
        if end == len(entries) or full or entries[end].plan is not entries[start].plan:
            yield entries[start:end]
            start = end


def _placed(answer: Sequence[bytes]) -> Placed:
    return Placed(*(text(part) for part in answer))
