"""The workers of `fleet up`, as many as each pool should have.

Beat decides; this follows, five times a second. It starts missing workers, and ends those that the
scaler has drained and that run nothing. If Redis is away, what runs goes on. Of several `fleet up`
on one broker one starts the workers of a pool, and each ends its own.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from itertools import count
from typing import Protocol

from fleet.local.rules import pool_of
from fleet.redis.client import connect
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.scaling.orders_store import Followed, LocalAgent, Orders
from fleet.settings import Settings
from fleet.tasks.background_loops import repeat

FOLLOW_SECONDS = 0.2
MAX_SECONDS = 5.0
"""The longest wait while Redis is away."""


class Supervised(Protocol):
    """What the supervisor of the processes can do. Every method may be called from any thread."""

    def workers(self) -> Mapping[str, int | None]:
        """The processes that run or are about to, by name: their process ids, None before the
        start."""

    def start_worker(self, name: str) -> None:
        """Start a process, soon."""

    def end_worker(self, name: str) -> None:
        """End a process, soon, and do not restart it."""


class LocalWorkers:
    """Keeps the workers of one supervisor as the orders say. `pools` are the pools that it may run
    workers of."""

    def __init__(self, orders: Orders, supervised: Supervised, pools: Collection[str]) -> None:
        self.orders = orders
        self.supervised = supervised
        self.pools = tuple(pools)
        self.host = socket.gethostname()
        #: Workers that were told to end.
        self._ended: set[str] = set()
        self._agents: tuple[LocalAgent, ...] = ()

    def thread(self, ended: threading.Event) -> threading.Thread:
        """A daemon thread, not yet started, that follows the orders until `ended` is set."""
        return repeat("scaling", self.follow, FOLLOW_SECONDS, MAX_SECONDS, ended)

    def follow(self) -> None:
        """Read the orders, and start and end workers. Raises `RetryLater` and then changes
        nothing."""
        workers = self.supervised.workers()
        self._ended &= workers.keys()
        followed = self.orders.follow(self._starting(workers))
        self._agents = followed.agents
        self._end(workers)
        self._start(workers, followed)

    def _end(self, workers: Mapping[str, int | None]) -> None:
        groups = {pid: name for name, pid in workers.items() if pid is not None}
        for agent in self._agents:
            name = groups.get(_group(agent.pid)) if agent.host == self.host else None
            if agent.leaving == "ending" and name is not None and name not in self._ended:
                self._ended.add(name)
                self.supervised.end_worker(name)

    def _start(self, workers: Mapping[str, int | None], followed: Followed) -> None:
        starting = self._starting(workers)
        taking = Counter(agent.pool for agent in self._agents if agent.takes_tasks)
        for pool, order in followed.orders.items():
            if order.workers is None or not order.is_starter:
                continue
            missing = order.workers - taking[pool] - starting[pool]
            names = (name for number in count(1) if (name := f"{pool}.{number}") not in workers)
            for _ in range(missing):
                self.supervised.start_worker(next(names))

    def _starting(self, workers: Mapping[str, int | None]) -> dict[str, int]:
        """How many workers of each pool run here that have not registered yet."""
        groups = {_group(agent.pid) for agent in self._agents if agent.host == self.host}
        found = dict.fromkeys(self.pools, 0)
        for name, pid in workers.items():
            pool = pool_of(name)
            if pool in found and name not in self._ended and (pid is None or pid not in groups):
                found[pool] += 1
        return found


def own_orders(settings: Settings, broker_url: str) -> Orders:
    """The orders for this process. Connects when they are first read."""
    client = connect(broker_url, settings.environment.socket_timeout)
    supervisor = f"{socket.gethostname()}:{os.getpid()}"
    return Orders(client, Keys(settings.tag), Scripts(client), supervisor)


def _group(pid: int, group_of: Callable[[int], int] = os.getpgid) -> int:
    """The process group of a worker: the id of the process that the supervisor has started. -1 if
    the worker has ended."""
    try:
        return group_of(pid)
    except ProcessLookupError:
        return -1
