"""Tasks on hold: they wait for room under a limit, and hold no slot, no worker and no money.

A task goes on hold at its submission (`submit.lua`), in its run (`put_on_hold.lua`), or at the end
of its delay (`release_task.lua`). It is queued when its cost fits (`release_task.lua`).
`fleet.tasks.waiting.schedule_store` says when to look. Its stored state is `parked`.
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
"""How often a running task may go on hold: each new run may pay for its first model calls again."""


class Released(NamedTuple):
    """The answer of `lua/release_task.lua`; its head lists the statuses."""

    status: str
    detail: str


class OnHold(Store):
    """Puts tasks on hold and releases them. Every method is one call to Redis unless it says
    more."""

    def add(self, lease: Lease, refusal: Refusal, wait_ms: int) -> str:
        """Put a running task on hold for `wait_ms`. `lua/put_on_hold.lua` lists the answers."""
        keys = [self.keys.task(lease.task_id), self.keys.leases]
        keys += [self.keys.pool(lease.pool).in_flight, self.keys.cancelled, self.keys.parked]
        keys += [self.keys.ledger, self.keys.money, self.keys.reservations, self.keys.open_steps]
        keys += [self.keys.waiting, self.keys.pool(lease.pool).facts]
        arguments: Arguments = [lease.task_id, lease.fence, refusal.packed, wait_ms, MAX_WAITS]
        with redis_errors(self.client):
            return text(self.scripts.put_on_hold(keys=keys, args=arguments))

    def count(self) -> int:
        """The number of tasks on hold."""
        with redis_errors(self.client):
            return int(self.client.zcard(self.keys.parked))

    def release(
        self, record: TaskRecord, queue: str, version: str, money: MoneyRules
    ) -> Released:
        """Queue a delayed task, or one on hold, if its cost fits now."""
        keys = [self.keys.task(record.id), self.keys.parked, self.keys.policy, self.keys.money]
        keys += [self.keys.reservations, queue, wake(queue), self.keys.delayed, line(queue)]
        keys.append(self.keys.waiting)
        arguments: Arguments = [record.id, version, record.tenant, *money.arguments]
        with redis_errors(self.client):
            return Released(*map(text, self.scripts.release_task(keys=keys, args=arguments)))

    def refuse(self, task_id: str, queue: str, error: str, dead_ttl: int) -> bool:
        """Fail a delayed task that fits no limit, with an error as JSON; False if it is not
        delayed.

        Its record is kept for `dead_ttl` seconds, like that of every dead letter. A worker takes
        its message from `queue` to notify Celery's result backend.
        """
        keys = [self.keys.task(task_id), self.keys.delayed, self.keys.done(task_id)]
        keys += [self.keys.waiting, self.keys.dead, self.keys.saved(task_id), queue, wake(queue)]
        with redis_errors(self.client):
            return bool(self.scripts.refuse(keys=keys, args=[task_id, error, dead_ttl]))

    def forget(self, task_id: str) -> None:
        """Drop the id of a delayed task, or one on hold, whose record is gone. Two calls."""
        with redis_errors(self.client):
            self.client.zrem(self.keys.parked, task_id)
            self.client.zrem(self.keys.delayed, task_id)
