"""What the router reads of the pools: exact counts, by the snapshot script or with a submission."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from redis import Redis

from fleet.state.client import redis_errors
from fleet.state.keys import Keys, wake
from fleet.state.scripts import Scripts, text
from fleet.state.store import Store


class PoolCounts(NamedTuple):
    """One pool's row. `response_seconds` is the moving average of its tasks' run time."""

    live_agents: int
    in_flight: int
    capacity: int
    successes: int
    outcomes: int
    response_seconds: float

    @property
    def success_rate(self) -> float:
        """0 to 1 over the last 100 tasks, 1 before any."""
        return self.successes / self.outcomes if self.outcomes else 1.0


def parse_counts(packed: str) -> list[PoolCounts]:
    """The rows that `submit.lua` and `snapshot.lua` return as one string."""
    return [_parse_row(row.split(",")) for row in packed.split(";") if row]


def _parse_row(cells: Sequence[str]) -> PoolCounts:
    live, in_flight, capacity, successes, outcomes, response = cells
    return PoolCounts(
        int(live), int(in_flight), int(capacity), int(successes), int(outcomes), float(response)
    )


class Pools(Store):
    """Reads the pools' counts and moves messages away from dead pools."""

    def __init__(
        self, client: Redis, keys: Keys, scripts: Scripts, dead_after_seconds: float
    ) -> None:
        super().__init__(client, keys, scripts)
        self.dead_after_ms = int(dead_after_seconds * 1000)

    def counts(self, names: Sequence[str]) -> dict[str, PoolCounts]:
        """The counts of these pools, all at one moment, in one call."""
        pools = [self.keys.pool(name) for name in names]
        keys = [key for pool in pools for key in (pool.facts, pool.agents, pool.in_flight)]
        with redis_errors(self.client):
            packed = text(self.scripts.snapshot(keys=keys, args=[self.dead_after_ms]))
        return dict(zip(names, parse_counts(packed), strict=True))

    def rescue(self, name: str, queue: str, overflow_queue: str, most: int = 1000) -> list[str]:
        """Move what waits for a pool without live agents to the overflow queue; the task ids."""
        pool = self.keys.pool(name)
        keys = [pool.agents, pool.in_flight, queue, overflow_queue, wake(overflow_queue)]
        with redis_errors(self.client):
            moved = self.scripts.rescue(keys=keys, args=[self.dead_after_ms, most])
        return [text(task_id) for task_id in moved]
