"""The pools in Redis: exact counts, from the snapshot script or a submission, and health."""

from __future__ import annotations

from collections.abc import Sequence

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys, line, lists, wake
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store
from fleet.routing.rules.health import HealthPolicy
from fleet.routing.rules.pools import PoolCounts
from fleet.routing.rules.statistics import NO_OUTCOMES, Statistic

NO_COUNTS = PoolCounts(0, 0, 0, 0)


def parse_counts(packed: str, request_types: Sequence[str] = ()) -> list[PoolCounts]:
    """The counts of pools, from the one string that `submit.lua` and `snapshot.lua` return.

    `request_types` are the types that the call requested, in the same order.
    """
    return [_parse_pool(pool.split(","), request_types) for pool in packed.split(";") if pool]


def _parse_pool(cells: Sequence[str], request_types: Sequence[str]) -> PoolCounts:
    live, in_flight, capacity, open_slots, health_state, reason, overall, *narrow = cells
    found = zip(request_types, map(_parse_statistic, narrow), strict=False)
    return PoolCounts(
        int(live),
        int(in_flight),
        int(capacity),
        int(open_slots),
        health_state,
        reason,
        _parse_statistic(overall),
        {name: statistic for name, statistic in found if statistic.outcomes},
    )


def _parse_statistic(cell: str) -> Statistic:
    if cell == "0":
        return NO_OUTCOMES
    age, outcomes, successes, response, failures, typical = cell.split(":")
    return Statistic(
        int(outcomes),
        int(successes),
        float(response),
        int(failures),
        int(age) / 1000,
        float(typical),
    )


class Pools(Store):
    """Reads the pools' counts, moves messages away from dead pools, and changes their health."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, dead_after_seconds: float
    ) -> None:
        super().__init__(client, keys, scripts)
        self.dead_after_ms = int(dead_after_seconds * 1000)

    def counts(
        self, names: Sequence[str], request_types: Sequence[str] = ()
    ) -> dict[str, PoolCounts]:
        """The counts of these pools at one moment, in one call."""
        pools = [self.keys.pool(name) for name in names]
        keys = [key for pool in pools for key in (pool.facts, pool.agents, pool.in_flight)]
        with redis_errors(self.client):
            _, packed = self.scripts.snapshot(
                keys=keys, args=[self.dead_after_ms, *request_types]
            )
        return dict(zip(names, parse_counts(text(packed), request_types), strict=True))

    def waiting(self, overflow_queue: str) -> int:
        """The number of tasks in an overflow queue, in one call."""
        with redis_errors(self.client):
            return self.client.llen(overflow_queue)

    def will_start(self, names: Sequence[str]) -> str | None:
        """The first of these pools for which a worker is started when tasks wait, or None. One
        call."""
        with redis_errors(self.client):
            pipeline = self.client.pipeline(transaction=False)
            pipeline.time()
            for name in names:
                pipeline.hget(self.keys.pool(name).facts, "starts_until")
            (seconds, micros), *found = pipeline.execute()
        now_ms = seconds * 1000 + micros // 1000
        rows = zip(names, found, strict=True)
        return next((name for name, until in rows if now_ms < int(until or 0)), None)

    def rescue(self, name: str, queue: str, overflow_queue: str, most: int = 1000) -> list[str]:
        """Move the waiting tasks of a pool that takes nothing to the overflow queue. Returns the
        task ids."""
        pool = self.keys.pool(name)
        moved: list[str] = []
        with redis_errors(self.client):
            for each in lists(queue):
                keys = [pool.agents, pool.in_flight, each, overflow_queue, wake(overflow_queue)]
                keys += [pool.facts, line(each), line(overflow_queue)]
                found = self.scripts.rescue(keys=keys, args=[self.dead_after_ms, most])
                moved += map(text, found)
        return moved

    def maintain(self, name: str, resting: bool) -> None:
        """Start or end the maintenance of a pool. In maintenance it gets no new tasks."""
        facts = self.keys.pool(name).facts
        with redis_errors(self.client):
            if resting:
                self.client.hset(facts, "maintenance", 1)
            else:
                self.client.hdel(facts, "maintenance")

    def eject(self, name: str, peers: Sequence[str], reason: str, policy: HealthPolicy) -> bool:
        """Eject a pool for a while, if one of its peers stays in rotation. Returns whether it was
        ejected."""
        keys = [self.keys.pool(name).facts]
        for peer in map(self.keys.pool, peers):
            keys += [peer.facts, peer.agents]
        arguments = eject_arguments(self.dead_after_ms, policy, reason)
        with redis_errors(self.client):
            return bool(self.scripts.eject(keys=keys, args=arguments))

    def readmit(self, name: str) -> bool:
        """Return a pool to rotation at once. Returns whether it was ejected, on probation or
        returning."""
        with redis_errors(self.client):
            return bool(self.scripts.readmit(keys=[self.keys.pool(name).facts]))


def eject_arguments(dead_after_ms: int, policy: HealthPolicy, reason: str) -> list[str | int]:
    """The arguments of `eject.lua`."""
    return [
        dead_after_ms,
        int(policy.eject_seconds * 1000),
        int(policy.most_eject_seconds * 1000),
        policy.probes,
        policy.good_probes,
        int(policy.ramp_seconds * 1000),
        reason,
    ]
