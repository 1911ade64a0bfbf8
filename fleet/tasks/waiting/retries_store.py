"""Retries (`lua/retry.lua`): a task that waits for a retry is on hold."""

from __future__ import annotations

from typing import NamedTuple

from redis import Redis

from fleet.budgets.reservation import Arguments
from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.routing.rules.statistics import OUTCOMES_KEPT
from fleet.tasks.store import Lease


class PriorRetries(NamedTuple):
    """How often a task was retried, and how many seconds ago it first failed; 0 if never."""

    retries: int
    age_seconds: float


class PutBack(NamedTuple):
    """The answer of `lua/retry.lua`: a status, and the pool's consecutive failures."""

    status: str
    failures_in_row: int


class RetryStore(Store):
    """Puts tasks back for a retry. Pool statistics decay with `half_life_seconds`."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, half_life_seconds: float
    ) -> None:
        super().__init__(client, keys, scripts)
        self.half_life_ms = int(half_life_seconds * 1000)

    def prior(self, task_id: str) -> PriorRetries:
        """The earlier retries of a task, by Redis's clock. One round trip."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.hmget(self.keys.task(task_id), "retries", "retrying_since")
            pipeline.time()
            (retries, since), (seconds, micros) = pipeline.execute()
        age = seconds + micros / 1e6 - int(since) / 1000 if since else 0.0
        return PriorRetries(int(retries or 0), max(0.0, age))

    def put_back(
        self, lease: Lease, error: str, kind: str, seconds: float, *, counts_for_pool: bool = True
    ) -> PutBack:
        """Put a running task on hold until its retry in `seconds`. One call.

        `error` is JSON and `kind` its class. With `counts_for_pool` the failure counts for the
        pool's success rate.
        """
        keys, pool = self.keys, self.keys.pool(lease.pool)
        names = [keys.task(lease.task_id), keys.leases, pool.in_flight, keys.cancelled, keys.parked]
        names += [keys.ledger, keys.money, keys.reservations, keys.open_steps]
        names += [keys.waiting, pool.facts]
        arguments: Arguments = [lease.task_id, lease.fence, error, kind, round(seconds * 1000)]
        arguments += [OUTCOMES_KEPT, int(counts_for_pool), lease.request_type, self.half_life_ms]
        with redis_errors(self.client):
            status, failures = self.scripts.retry(keys=names, args=arguments)
        return PutBack(text(status), int(failures))
