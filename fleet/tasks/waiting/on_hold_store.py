"""Parked tasks: they wait for room under a limit, and take no slot, no worker and no money.

A task is parked at its submission (`submit.lua`), in its run (`put_on_hold.lua`), or when its time
has come (`release_task.lua`), and is queued when its cost fits (`release_task.lua`).
`fleet.tasks.waiting.schedule_store` says when to look.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.budgets.reservation import Arguments, MoneyRules
from fleet.budgets.rules.refusals import Refusal
from fleet.redis.client import redis_errors
from fleet.redis.keys import line, wake
from fleet.redis.scripts import text
from fleet.redis.store import Store
from fleet.tasks.record import TaskRecord
from fleet.tasks.store import Lease

MAX_WAITS = 5
"""So often a task is parked in its run: each run may pay for its first steps again."""


class Unparked(NamedTuple):
    """What became of a task whose time has come: see the head of `lua/release_task.lua`."""

    status: str
    detail: str


class OnHold(Store):
    """Parks tasks and brings them back. Every method is one call to Redis unless it says more."""

    def park(self, lease: Lease, refusal: Refusal, wait_ms: int) -> str:
        """Park a running task: see the head of `lua/put_on_hold.lua` for what it answers."""
        keys = [self.keys.task(lease.task_id), self.keys.leases]
        keys += [self.keys.pool(lease.pool).in_flight, self.keys.cancelled, self.keys.parked]
        keys += [self.keys.ledger, self.keys.money, self.keys.reservations, self.keys.open_steps]
        keys.append(self.keys.waiting)
        arguments: Arguments = [lease.task_id, lease.fence, refusal.packed, wait_ms, MAX_WAITS]
        with redis_errors(self.client):
            return text(self.scripts.put_on_hold(keys=keys, args=arguments))

    def count(self) -> int:
        """How many tasks are parked."""
        with redis_errors(self.client):
            return int(self.client.zcard(self.keys.parked))

    def unpark(
        self, record: TaskRecord, queue: str, version: str, money: MoneyRules
    ) -> Unparked:
        """Queue a delayed or parked task, where its cost fits now: see the head of
        `lua/release_task.lua`."""
        keys = [self.keys.task(record.id), self.keys.parked, self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, queue, wake(queue), self.keys.delayed, line(queue)]
        keys.append(self.keys.waiting)
        arguments: Arguments = [record.id, version, record.tenant, *money.arguments]
        with redis_errors(self.client):
            return Unparked(*map(text, self.scripts.release_task(keys=keys, args=arguments)))

    def refuse(self, task_id: str, queue: str, error: str, dead_ttl: int) -> bool:
        """End a delayed task that fits no limit with an error, as JSON. Whether it was delayed.

        Its record is kept for `dead_ttl` seconds, as that of every dead letter. A worker takes its
        message from `queue`, to tell Celery."""
        keys = [self.keys.task(task_id), self.keys.delayed, self.keys.done(task_id)]
        keys += [self.keys.waiting, self.keys.dead, self.keys.saved(task_id), queue, wake(queue)]
        with redis_errors(self.client):
            return bool(self.scripts.refuse(keys=keys, args=[task_id, error, dead_ttl]))

    def forget(self, task_id: str) -> None:
        """Drop a delayed or parked task whose record is gone."""
        with redis_errors(self.client):
            self.client.zrem(self.keys.parked, task_id)
            self.client.zrem(self.keys.delayed, task_id)
