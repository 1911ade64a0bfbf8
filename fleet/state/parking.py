"""Parked tasks: they wait for room under a limit, and take no slot, no worker and no money.

A task is parked at its submission (`submit.lua`) or in its run (`park.lua`), and is queued again
when its time has come and its cost fits (`unpark.lua`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fleet.core.refusals import Refusal
from fleet.state.client import redis_errors
from fleet.state.keys import wake
from fleet.state.money import Arguments, MoneyRules
from fleet.state.records import TaskRecord
from fleet.state.scripts import text
from fleet.state.store import Store
from fleet.state.tasks import Lease

MOST_WAITS = 5
"""So often a task is parked in its run: each run may pay for its first steps again."""


class Due(NamedTuple):
    """A parked task whose time has come, and when it was submitted, in ms."""

    submitted: int
    task_id: str


class Parking(Store):
    """Parks tasks and brings them back. Every method is one call to Redis unless it says more."""

    def park(self, lease: Lease, refusal: Refusal, wait_ms: int) -> str:
        """Park a running task: see the head of `lua/park.lua` for what it answers."""
        keys = [self.keys.task(lease.task_id), self.keys.leases]
        keys += [self.keys.pool(lease.pool).in_flight, self.keys.cancelled, self.keys.parked]
        keys += [self.keys.ledger, self.keys.money, self.keys.reservations, self.keys.open_steps]
        arguments: Arguments = [lease.task_id, lease.fence, refusal.packed, wait_ms, MOST_WAITS]
        with redis_errors(self.client):
            return text(self.scripts.park(keys=keys, args=arguments))

    def count(self) -> int:
        """How many tasks are parked."""
        with redis_errors(self.client):
            return int(self.client.zcard(self.keys.parked))

    def due(self, most: int = 1000) -> list[str]:
        """Ids of the tasks whose time has come by Redis's clock, oldest first. Three calls."""
        with redis_errors(self.client):
            seconds, micros = self.client.time()
            now = seconds * 1000 + micros // 1000
            ids: Any = self.client.zrangebyscore(
                self.keys.parked, "-inf", now, start=0, num=most
            )
            pipeline = self.client.pipeline(transaction=False)
            for task_id in ids:
                pipeline.hget(self.keys.task(text(task_id)), "submitted")
            times = pipeline.execute()
        due = [_due(time, task_id) for time, task_id in zip(times, ids, strict=True)]
        return [each.task_id for each in sorted(due)]

    def unpark(self, record: TaskRecord, queue: str, version: str, money: MoneyRules) -> str:
        """Queue a parked task, where its cost fits now: see the head of `lua/unpark.lua`."""
        keys = [self.keys.task(record.id), self.keys.parked, self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, queue, wake(queue)]
        arguments: Arguments = [record.id, version, record.tenant, money.agent_type]
        arguments += [*money.limits, repr(money.nearly), *money.of_models]
        with redis_errors(self.client):
            return text(self.scripts.unpark(keys=keys, args=arguments))

    def forget(self, task_id: str) -> None:
        """Drop a parked task whose record is gone."""
        with redis_errors(self.client):
            self.client.zrem(self.keys.parked, task_id)


def _due(submitted: bytes | str | None, task_id: bytes | str) -> Due:
    return Due(int(submitted or 0), text(task_id))
