"""A prefork worker that grows and shrinks while it runs, as the actuator `pool` orders.

A worker begins as one agent with the slots of its pool. For each worker more that the pool should
have it starts as many processes again, and registers one more agent for them. So capacity, victims
and draining count such a part of a worker like a worker of its own. Of several workers of a pool
one grows; each shrinks by its own parts. The agent that the worker began as stays.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from fleet.broker.app import Role
from fleet.redis.scripts import Scripts
from fleet.scaling.orders_store import Followed, Orders
from fleet.tasks.connection import Connection
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class _Part:
    """An agent that the worker has grown by. `reported`: the running tasks that it reported last,
    and when."""

    takes_tasks: bool = True
    reported: int = -1
    reported_at: float = float("-inf")


class Growth:
    """The parts of one worker, beside the agent that it began as.

    The heartbeat's thread calls it. The pool of processes is changed in the thread of the worker's
    event loop alone.
    """

    def __init__(self, connection: Connection, role: Role) -> None:
        config = connection.settings.config
        self.registry = connection.routing.agents
        self.role = role
        self.slots = config.pools[role.pool].slots
        self.every_seconds = config.leases.heartbeat_seconds
        supervisor = f"{socket.gethostname()}:{os.getpid()}"
        client = connection.client
        self.orders = Orders(client, connection.keys, Scripts(client), supervisor)
        self._numbers = count(2)
        self._parts: dict[str, _Part] = {}
        #: Processes that are to end, as soon as they run nothing.
        self._excess = 0
        self._consumer: Any = None

    def serve(self, consumer: Any) -> None:
        """Change the pool of this consumer from now on."""
        self._consumer = consumer

    @property
    def capacity(self) -> int:
        """How many tasks the worker may run at once, those of drained parts included."""
        return self.slots * (1 + len(self._parts))

    @property
    def _taking(self) -> int:
        """How many agents of this worker take tasks, unless a person has drained it."""
        return 1 + sum(part.takes_tasks for part in self._parts.values())

    def leave(self) -> None:
        """Take every part out of the registry, until the worker goes on; resize nothing."""
        self._consumer = None
        for name, part in self._parts.items():
            part.reported_at = float("-inf")
            self.registry.leave(name, self.role.pool)

    def follow(self, running: int, *, is_drained: bool) -> None:
        """Do what is ordered, and report `running` tasks. `is_drained`: the worker takes no tasks,
        since a person has drained it. Its parts then end."""
        followed = self.orders.follow({self.role.pool: 0})
        self._note(followed, is_drained)
        if not is_drained:
            self._grow(followed)
        self._run_on_loop(self._resize)
        self._report(running)

    def _note(self, followed: Followed, is_drained: bool) -> None:
        known = {agent.id: agent for agent in followed.agents}
        for name, part in tuple(self._parts.items()):
            agent = known.get(name)
            part.takes_tasks = agent is None or agent.takes_tasks
            if is_drained or (agent is not None and agent.leaving == "ending"):
                del self._parts[name]
                self._excess += self.slots
                self.registry.leave(name, self.role.pool)
                log.info("shrinking this worker", agent=name, slots=self.slots)

    def _grow(self, followed: Followed) -> None:
        order = followed.orders[self.role.pool]
        if order.workers is None or not order.is_starter:
            return
        own = {self.role.agent, *self._parts}
        others = [each for each in followed.agents if each.pool == self.role.pool]
        taking = sum(each.takes_tasks for each in others if each.id not in own)
        for _ in range(order.workers - taking - self._taking):
            name, _, host = self.role.agent.rpartition("@")
            agent = f"{name}.{next(self._numbers)}@{host}"
            self._register(agent)
            self._parts[agent] = _Part()
            log.info("growing this worker", agent=agent, slots=self.slots)

    def _register(self, agent: str) -> None:
        facts = {"host": socket.gethostname(), "pid": str(os.getpid()), "supervised": "1"}
        self.registry.register(agent, self.role.pool, self.slots, facts)

    def _run_on_loop(self, call: Callable[[], None]) -> None:
        consumer = self._consumer
        if consumer is not None and consumer.hub is not None:
            consumer.hub.call_soon(call)

    def _resize(self) -> None:
        """Make the pool of processes, and how much is fetched for it, as large as they should be.
        """
        consumer = self._consumer
        if consumer is None:
            return
        pool = consumer.pool
        grown = self.capacity - (pool.num_processes - self._excess)
        back = min(grown, self._excess)
        self._excess -= back
        if grown > back:
            pool.grow(grown - back)
            pool.maintain_pool()
        self._end_idle(pool)
        taking = self.slots * self._taking
        change = taking - consumer.qos.value
        if change > 0:
            consumer.qos.increment_eventually(change)
        elif change < 0:
            consumer.qos.decrement_eventually(-change)
        # After a lost connection the consumer begins with this.
        consumer.initial_prefetch_count = taking

    def _end_idle(self, pool: Any) -> None:
        """End excess processes that run nothing. A task that was handed to a process which has not
        accepted it yet may be in any of them: then the next call tries again. So it does until
        those that were ended are gone, since billiard 4.3 would end the same ones once more."""
        processes = pool._pool
        if not self._excess or len(processes._pool) > pool.num_processes:
            return
        if all(job.accepted() for job in processes._cache.values()):
            idle = min(self._excess, sum(1 for _ in processes._iterinactive()))
            if idle:
                processes.shrink(idle)
                self._excess -= idle

    def _report(self, running: int) -> None:
        """A heartbeat of each part for which one is due. Those that take tasks are taken to run
        them first, so that a drained part is idle as soon as the others can run all."""
        left, now = max(0, running - self.slots), time.monotonic()
        for name, part in sorted(self._parts.items(), key=lambda each: not each[1].takes_tasks):
            own = min(left, self.slots)
            left -= own
            if own == part.reported and now - part.reported_at < self.every_seconds:
                continue
            if self.registry.heartbeat(name, self.role.pool, own, self.slots) == "unknown":
                self._register(name)
            part.reported, part.reported_at = own, now
