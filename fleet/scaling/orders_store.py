"""The orders to supervisors of local processes, and their reports: `lua/follow.lua`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from redis import Redis

from fleet.redis.client import redis_errors
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts, text
from fleet.redis.store import Store

SILENT_SECONDS = 10
"""After so long without a word of it, another supervisor starts the workers of a pool."""
MAX_READS = 4


class Order(NamedTuple):
    """How many workers a pool should have, None before the first decision, and whether this
    supervisor starts those that are missing."""

    workers: int | None
    is_starter: bool


class LocalAgent(NamedTuple):
    """An agent as a supervisor sees it. `leaving` is `ending` once its worker may end."""

    id: str
    pool: str
    status: str
    leaving: str
    host: str
    pid: int

    @property
    def takes_tasks(self) -> bool:
        return self.status in ("idle", "busy")


class Followed(NamedTuple):
    """The orders by pool, and all known agents."""

    orders: Mapping[str, Order]
    agents: tuple[LocalAgent, ...]


class Orders(Store):
    """What one supervisor reads and reports."""

    def __init__(self, client: Redis, keys: Keys, scripts: Scripts, supervisor: str) -> None:
        super().__init__(client, keys, scripts)
        self.supervisor = supervisor
        self._agents: tuple[str, ...] = ()

    def follow(self, starting: Mapping[str, int]) -> Followed:
        """Report how many workers of each pool are starting here; the orders for these pools.

        One round trip, and one more if agents have come.
        """
        for _ in range(MAX_READS):
            keys = [self.keys.agents]
            for name in starting:
                pool = self.keys.pool(name)
                keys += [pool.scaling, pool.starting, pool.starter]
            keys += [self.keys.agent(agent) for agent in self._agents]
            arguments = [self.supervisor, SILENT_SECONDS, len(starting), *starting.values()]
            with redis_errors(self.client):
                ids, pools, agents = self.scripts.follow(keys=keys, args=arguments)
            asked, self._agents = self._agents, tuple(sorted(map(text, ids)))
            if set(self._agents) <= set(asked):
                break
        orders = {
            name: Order(int(ordered) if text(ordered) else None, bool(is_starter))
            for name, (ordered, is_starter) in zip(starting, pools, strict=True)
        }
        rows = zip(asked, agents, strict=True)
        found = (_agent(agent_id, *map(text, row)) for agent_id, row in rows)
        return Followed(orders, tuple(each for each in found if each.status))


def _agent(
    agent_id: str, pool: str, status: str, leaving: str, host: str, pid: str
) -> LocalAgent:
    return LocalAgent(agent_id, pool, status, leaving, host, int(pid or 0))
