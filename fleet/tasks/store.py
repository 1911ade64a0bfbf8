"""Task records: written at submission, then only by the holder of the lease.

A record is a hash. `tasks/rules.py` has its states and moves. Every move is one script in `lua/`
and adds a line to the record's history. The fence, a number that grows with each claim, prevents a
run that lost its lease from writing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from redis import Redis

from fleet.budgets.reservation import NO_LIMITS, Arguments, CallLimits
from fleet.errors import LeaseLost, TaskNotFound
from fleet.models.rules.decision import ModelDecision
from fleet.redis.client import redis_errors
from fleet.redis.clock import ServerClock
from fleet.redis.keys import Keys, line, wake
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.routing.rules.statistics import OUTCOMES_KEPT
from fleet.tasks.leases.lease import Lease, parse_lease
from fleet.tasks.record import TaskRecord, parse_record
from fleet.tasks.rules import ENDED, MAX_CRASHES, STATES, Death
from fleet.tasks.waiting.queue_index_store import free_slot

__all__ = ["ENDED", "STATES", "Finished", "Lease", "TaskRecord", "Tasks"]

PAGE = 500
"""Ids of an index that one script reads: half a millisecond."""


class Finished(NamedTuple):
    """Whether the outcome was written, and the pool's current number of consecutive failures."""

    kept: bool
    failures_in_row: int


class Tasks(Store):
    """Reads and moves task records. Every method is one call to Redis unless it says more.

    Pool statistics decay with `half_life_seconds`. The record of a dead letter is kept for
    `dead_ttl_seconds`. `overflow_queue` gives the queue of an agent type that all its workers
    serve.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        scripts: Scripts,
        half_life_seconds: float,
        dead_ttl_seconds: int,
        overflow_queue: Callable[[str], str],
        clock: ServerClock,
    ) -> None:
        super().__init__(client, keys, scripts)
        self.clock = clock
        self.dead_ttl_seconds = dead_ttl_seconds
        self.overflow_queue = overflow_queue
        self.half_life_ms = int(half_life_seconds * 1000)

    def read(self, task_id: str) -> TaskRecord:
        """The record of a task. Raises `TaskNotFound`."""
        with redis_errors(self.client):
            fields = self.client.hgetall(self.keys.task(task_id))
        if b"state" not in fields:
            raise TaskNotFound(
                f"no task {task_id} is known; `fleet tasks` lists those with a record"
            )
        return parse_record(task_id, fields)

    def state(self, task_id: str) -> str:
        """The state of a task. Raises `TaskNotFound`."""
        with redis_errors(self.client):
            state = self.client.hget(self.keys.task(task_id), "state")
        if state is None:
            raise _unknown(task_id)
        return text(state)

    def check_tenant(self, task_id: str, tenant: str) -> None:
        """Raise `TaskNotFound` unless the task is of this tenant. A task of another one is reported
        as `state` reports an unknown one."""
        with redis_errors(self.client):
            found = self.client.hget(self.keys.task(task_id), "tenant")
        if found is None or text(found) != tenant:
            raise _unknown(task_id)

    def newest(
        self, limit: int, state: str | None = None, tenant: str | None = None
    ) -> list[TaskRecord]:
        """The newest records, newest first, optionally of one state or tenant.

        Without a filter: two calls. With a filter, all tasks are searched until `limit` are found,
        with three calls per 500 tasks. Ids whose record has expired are removed from the index.
        """
        found: dict[str, TaskRecord] = {}
        start, is_last = 0, False
        is_filtered = state is not None or tenant is not None
        while len(found) < limit and not is_last:
            size = PAGE if is_filtered else limit
            with redis_errors(self.client):
                ids = self._indexed(start, size)
                wanted = self._of(ids, state, tenant) if is_filtered else ids
                rows = self._rows(wanted)
                expired = [i for i, fields in rows.items() if b"state" not in fields]
                if expired:
                    self.client.zrem(self.keys.tasks, *expired)
            records = (parse_record(i, rows[i]) for i in wanted if i not in expired)
            # Their state may have changed since the filter read it.
            found |= {
                each.id: each
                for each in records
                if state in (None, each.state) and tenant in (None, each.tenant)
            }
            start += size - len(expired)
            is_last = len(ids) < size or not is_filtered
        return list(found.values())[:limit]

    def _indexed(self, start: int, size: int) -> list[str]:
        """Ids of tasks, newest first."""
        return [text(i) for i in self.client.zrevrange(self.keys.tasks, start, start + size - 1)]

    def _rows(self, ids: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        pipeline = self.client.pipeline(transaction=False)
        for task_id in ids:
            pipeline.hgetall(self.keys.task(task_id))
        return dict(zip(ids, pipeline.execute(), strict=True))

    def _of(self, ids: Sequence[str], state: str | None, tenant: str | None) -> list[str]:
        """The ids in a state, of a tenant; and those whose record has expired."""
        pipeline = self.client.pipeline(transaction=False)
        for task_id in ids:
            pipeline.hmget(self.keys.task(task_id), "state", "tenant")
        return [
            task_id
            for task_id, fields in zip(ids, pipeline.execute(), strict=True)
            if fields[0] is None
            or all(
                wanted in (None, each and text(each))
                for wanted, each in zip((state, tenant), fields, strict=True)
            )
        ]

    def claim(
        self,
        task_id: str,
        agent: str,
        pool: str,
        lease_seconds: float,
        name: str,
        tenant: str,
        plan: str,
        limits: CallLimits = NO_LIMITS,
        message: str = "",
    ) -> Lease | str:
        """Claim a task; the lease, or why there is none.

        'held': a live run has the lease. 'ended': the task has ended. 'spent': it has crashed too
        often, and the reaper ends it. 'unknown': it has no record, and `plan` is ''. 'replan':
        `limits` are of another version of the policy than the current one.

        `name` is unique to this claim, so the call may be repeated. For a task without a record,
        the script writes `tenant`, `plan` and `message`, each '' for none, and reserves the
        estimate under `limits`; the lease has the refusal if the estimate does not fit.
        """
        keys = [
            self.keys.task(task_id),
            self.keys.leases,
            self.keys.pool(pool).in_flight,
            self.keys.tasks,
            self.keys.money,
            self.keys.reservations,
            self.keys.waiting,
            self.keys.policy,
            self.keys.saved(task_id),
            self.keys.clock,
            self.keys.pool(pool).facts,
        ]
        arguments: Arguments = [task_id, agent, pool, int(lease_seconds * 1000), name]
        arguments += [MAX_CRASHES, *self.clock.evidence(), tenant, plan]
        arguments += _asked(tenant, plan, limits, message)
        asked_at = time.monotonic()
        with redis_errors(self.client):
            status, fence, *found = self.scripts.claim(keys=keys, args=arguments)
        if text(status) != "claimed":
            return text(status)
        return parse_lease(task_id, pool, int(fence), asked_at, found)

    def begin(self, lease: Lease) -> None:
        """Begin a run that had to wait until it runs alone. Raises `LeaseLost`."""
        with redis_errors(self.client):
            kept = self.scripts.begin(keys=[self.keys.task(lease.task_id)], args=[lease.fence])
        if not kept:
            raise LeaseLost(f"another run has task {lease.task_id} now; do not begin it here")

    def renew(self, lease: Lease, lease_seconds: float) -> bool:
        """Renew a lease for `lease_seconds`; False if another run has the task."""
        (status,) = self.check_leases([(lease, True)], lease_seconds)
        return status != "lost"

    def check_leases(self, leases: Sequence[tuple[Lease, bool]], lease_seconds: float) -> list[str]:
        """Check many leases in one script; renew those paired with True, for `lease_seconds` from
        now.

        Gives for each lease 'kept', 'cancelled', or 'lost' if another run has the task.
        """
        keys = [self.keys.leases, self.keys.cancelled]
        arguments: Arguments = [int(lease_seconds * 1000)]
        for lease, is_due in leases:
            keys.append(self.keys.task(lease.task_id))
            arguments += [lease.task_id, lease.fence, int(is_due)]
        with redis_errors(self.client):
            return [text(each) for each in self.scripts.renew(keys=keys, args=arguments)]

    def report(self, lease: Lease, **fields: str) -> None:
        """Write progress. Raises `LeaseLost` if another run has the task."""
        flat = [part for pair in fields.items() for part in pair]
        with redis_errors(self.client):
            kept = self.scripts.progress(
                keys=[self.keys.task(lease.task_id)], args=[lease.fence, *flat]
            )
        if not kept:
            raise LeaseLost(f"another run has task {lease.task_id} now; stop without writing")

    def finish(
        self,
        lease: Lease,
        pool: str,
        state: str,
        result_ttl: int,
        fields: Mapping[str, str],
        *,
        counts_for_pool: bool = True,
        dead: Death = "permanent",
    ) -> Finished:
        """Write the outcome of a task, unless another run has the task.

        `state` is one of `ENDED`; `dead` is the reason why a failed task is a dead letter. With
        `counts_for_pool` the outcome counts for the pool's success rate and response time.
        """
        if state not in ENDED:
            raise ValueError(f"{state!r} is no final state of a task")
        pool_keys = self.keys.pool(pool)
        keys = [
            self.keys.task(lease.task_id),
            self.keys.leases,
            pool_keys.in_flight,
            self.keys.cancelled,
            pool_keys.facts,
            self.keys.done(lease.task_id),
            *self._money_keys,
            self.keys.waiting,
            self.keys.dead,
            self.keys.saved(lease.task_id),
        ]
        flat = [part for pair in fields.items() for part in pair]
        arguments: Arguments = [lease.task_id, lease.fence, state, result_ttl]
        arguments += [OUTCOMES_KEPT, int(counts_for_pool), lease.request_type]
        arguments += [self.half_life_ms, dead, self.dead_ttl_seconds, *flat]
        with redis_errors(self.client):
            kept, failures = self.scripts.finish(keys=keys, args=arguments)
        return Finished(bool(kept), int(failures))

    def cancel(
        self,
        task_id: str,
        result_ttl: int,
        by: str = "",
        why: str = "",
        *,
        stop_running: bool = True,
    ) -> str:
        """Cancel a task, on behalf of `by`; its state before. Raises `TaskNotFound`.

        Without `stop_running`, a running task continues.
        """
        while True:
            record = self.read(task_id)
            pool = record.pool
            overflow = self.overflow_queue(record.agent_type)
            in_flight = self.keys.pool(pool).in_flight if pool else self.keys.task(task_id)
            keys = [
                self.keys.task(task_id),
                self.keys.cancelled,
                in_flight,
                self.keys.done(task_id),
                self.keys.parked,
                self.keys.money,
                self.keys.reservations,
                self.keys.delayed,
                self.keys.waiting,
                self.keys.saved(task_id),
                overflow,
                wake(overflow),
            ]
            arguments: Arguments = [task_id, pool, result_ttl, by, why, int(stop_running)]
            with redis_errors(self.client):
                before = text(self.scripts.cancel(keys=keys, args=arguments))
            if before == "unknown":
                raise TaskNotFound(f"the record of task {task_id} has expired")
            if before != "moved":
                return before

    def free_slot(self, task_id: str, pool: str) -> None:
        """Free the slot that a delivery took, unless the task runs in the pool."""
        with redis_errors(self.client):
            free_slot(self.scripts, self.keys, task_id, pool)

    def expired_leases(self, most: int = 1000) -> list[str]:
        """Ids of running tasks whose lease has expired by Redis's clock. Two calls."""
        with redis_errors(self.client):
            now_ms = self.now_us() // 1000
            ids = self.client.zrangebyscore(self.keys.leases, "-inf", now_ms, start=0, num=most)
        return [text(i) for i in ids]

    def expire(self, task_id: str, agent: str, process: int) -> int | None:
        """Expire the lease of a dead process of an agent; the fence of its run, None if the process
        held no lease of the task."""
        keys = [self.keys.task(task_id), self.keys.leases]
        with redis_errors(self.client):
            found = self.scripts.expire(keys=keys, args=[task_id, agent, claim_prefix(process)])
        return None if found is None else int(found)

    def running(self) -> list[str]:
        """Ids of the running tasks, the earliest end of a lease first."""
        with redis_errors(self.client):
            return [text(i) for i in self.client.zrange(self.keys.leases, 0, -1)]

    def requeue(
        self,
        record: TaskRecord,
        overflow_queue: str,
        max_crashes: int,
    ) -> str:
        """Requeue a task whose lease has expired: 'requeued', 'failed', 'alive', or 'unwanted' if a
        user wants it cancelled.

        `record` is the task as it was read: a later claim wins. The abandoned run counts as a
        failure of its pool.
        """
        keys = [
            self.keys.task(record.id),
            self.keys.leases,
            self.keys.pool(record.pool).in_flight,
            overflow_queue,
            wake(overflow_queue),
            self.keys.done(record.id),
            self.keys.pool(record.pool).facts,
            *self._money_keys,
            line(overflow_queue),
            self.keys.waiting,
            self.keys.dead,
            self.keys.cancelled,
            self.keys.saved(record.id),
            self.keys.clock,
        ]
        died = _failure(f"its worker died in {max_crashes} attempts")
        unkept = _failure("its worker died, and its publisher stored no message to run it again")
        arguments: Arguments = [record.id, record.fence, max_crashes]
        arguments += [self.dead_ttl_seconds, died, OUTCOMES_KEPT, record.request_type]
        arguments += [self.half_life_ms, unkept, *self.clock.evidence()]
        with redis_errors(self.client):
            return text(self.scripts.requeue(keys=keys, args=arguments))

    def requeue_on_shutdown(self, lease: Lease, queue: str) -> str:
        """Requeue a running task in `queue`, since its worker shuts down.
        `lua/requeue_on_shutdown.lua` lists the answers."""
        keys = [
            self.keys.task(lease.task_id),
            self.keys.leases,
            self.keys.pool(lease.pool).in_flight,
            self.keys.cancelled,
            queue,
            wake(queue),
            self.keys.ledger,
            self.keys.money,
            self.keys.open_steps,
            line(queue),
            self.keys.waiting,
            self.keys.pool(lease.pool).facts,
        ]
        arguments: Arguments = [lease.task_id, lease.fence]
        with redis_errors(self.client):
            return text(self.scripts.requeue_on_shutdown(keys=keys, args=arguments))

    @property
    def _money_keys(self) -> tuple[str, str, str, str]:
        keys = self.keys
        return keys.ledger, keys.money, keys.reservations, keys.open_steps

    def forget_expired(self, index: str) -> int:
        """Drop the ids of expired records from an index, and their checkpoints; how many were
        dropped.

        Two calls for each page. Concurrent calls may miss some ids until the next time.
        """
        dropped = 0
        with redis_errors(self.client):
            for start in range(0, self.client.zcard(index), PAGE):
                first = start - dropped
                ids = [text(i) for i in self.client.zrange(index, first, first + PAGE - 1)]
                if ids:
                    pairs = ((self.keys.task(each), self.keys.saved(each)) for each in ids)
                    names = [index, *chain.from_iterable(pairs)]
                    dropped += int(self.scripts.forget(keys=names, args=ids))
        return dropped

    def forget_lease(self, task_id: str) -> None:
        """Drop the lease of a task whose record is gone."""
        with redis_errors(self.client):
            self.client.zrem(self.keys.leases, task_id)


def claim_prefix(process: int) -> str:
    """The prefix of the names of a process's claims."""
    return f"{process}."


def _failure(message: str) -> str:
    return json.dumps({"type": "TaskFailed", "message": message})


def _asked(tenant: str, plan: str, limits: CallLimits, message: str) -> Arguments:
    """The arguments that reserve money for a task without a record, and its message."""
    if not plan:
        return []
    known = json.loads(plan)
    best = ModelDecision.from_json(known["model_decision"]).best
    names = json.dumps([tenant, known["agent_type"], best.model])
    tokens = best.input_tokens + best.output_tokens
    asked: Arguments = [names, limits.version, best.cost_nanodollars, tokens]
    return [*asked, *limits.scopes, limits.model, message]


def _unknown(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"no task {task_id} is known; its record may have expired")
