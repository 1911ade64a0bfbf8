"""The agents in Redis: their state, their running tasks, and their last heartbeat.

An agent registers when its worker is ready, sends a heartbeat every few seconds, and unregisters
when it shuts down. Redis's clock alone decides which agent is dead. An agent in maintenance sends
heartbeats, but adds no capacity and gets no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleet.errors import InvalidRequest
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.redis.store import Store

SHOW_FAILED_SECONDS = 600
"""A dead agent stays in the listing for ten minutes, for people to see."""


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """One agent. `heartbeat_age` in seconds; `registered` in seconds since 1970.

    `version` is that of its deployment, "" for an agent of an older Fleet.
    """

    id: str
    pool: str
    slots: int
    status: str
    running: int
    host: str
    pid: int
    heartbeat_age: float
    registered: float
    version: str = ""


def agent_id(pool: str, host: str, pid: int) -> str:
    """The id of an agent. It is a new one after each start of the worker."""
    return f"{pool}-{pid}@{host}"


def host_of(agent_id: str) -> str:
    """The host of an agent: in Kubernetes the name of its pod."""
    return agent_id.rpartition("@")[2]


class AgentStore(Store):
    """Reads and changes agents. Every method is one call to Redis unless its docstring says more.
    """

    def register(self, agent_id: str, pool: str, slots: int, facts: Mapping[str, str]) -> None:
        """Register an agent as alive and idle."""
        pool_keys = self.keys.pool(pool)
        keys = [
            self.keys.agent(agent_id),
            self.keys.agents,
            pool_keys.agents,
            pool_keys.facts,
            self.keys.pools,
        ]
        flat = [part for pair in facts.items() for part in pair]
        with redis_errors(self.client):
            self.scripts.register(keys=keys, args=[agent_id, pool, slots, *flat])

    def heartbeat(self, agent_id: str, pool: str, running: int, slots: int) -> str:
        """Record a heartbeat. Returns the agent's status, 'unknown' if it must register again."""
        held = self.keys.pool(pool)
        keys = [self.keys.agent(agent_id), held.agents, self.keys.agents, held.facts]
        keys.append(self.keys.pools)
        with redis_errors(self.client):
            return text(self.scripts.heartbeat(keys=keys, args=[agent_id, running, pool, slots]))

    def leave(self, agent_id: str, pool: str) -> None:
        """Remove an agent that shuts down."""
        keys = [self.keys.agent(agent_id), self.keys.agents, self.keys.pool(pool).agents]
        with redis_errors(self.client):
            self.scripts.leave(keys=keys, args=[agent_id])

    def drain(self, agent_id: str) -> None:
        """Put an agent into maintenance: it gets no new tasks, running tasks finish. Two calls."""
        self._move(agent_id, "maintenance")

    def resume(self, agent_id: str) -> None:
        """Take an agent out of maintenance. Two calls."""
        self._move(agent_id, "idle")

    def _move(self, agent_id: str, status: str) -> None:
        with redis_errors(self.client):
            pool = self.client.hget(self.keys.agent(agent_id), "pool")
            keys = [self.keys.agent(agent_id), self.keys.pool(text(pool)).agents]
            moved = pool and self.scripts.drain(keys=keys, args=[agent_id, status])
        if not moved:
            raise InvalidRequest(
                f"agent {agent_id} is unknown, dead or about to end; `fleet agents` lists all"
            )

    def agents(self) -> list[AgentRecord]:
        """All known agents by pool and id, recently failed ones included. Two calls."""
        with redis_errors(self.client):
            ids = sorted(text(i) for i in self.client.smembers(self.keys.agents))
            pipeline = self.client.pipeline(transaction=False)
            pipeline.time()
            for agent_id in ids:
                pipeline.hgetall(self.keys.agent(agent_id))
            (seconds, micros), *rows = pipeline.execute()
        now = seconds + micros / 1e6
        found = [parse_agent(fields, now) for fields in rows if fields]
        return sorted(found, key=lambda agent: (agent.pool, agent.id))

    def reap(self, dead_after_seconds: float) -> list[str]:
        """Declare silent agents dead. Returns their ids. One call for each agent."""
        dead = []
        with redis_errors(self.client):
            for agent_id in sorted(text(i) for i in self.client.smembers(self.keys.agents)):
                pool = text(self.client.hget(self.keys.agent(agent_id), "pool") or b"")
                keys = [self.keys.agent(agent_id), self.keys.agents, self.keys.pool(pool).agents]
                silence = int(dead_after_seconds * 1000)
                if self.scripts.reap(keys=keys, args=[agent_id, silence, SHOW_FAILED_SECONDS]):
                    dead.append(agent_id)
        return dead


def parse_agent(fields: Mapping[Any, Any], now: float) -> AgentRecord:
    """An agent from the fields of its hash. `now` in seconds since 1970, by Redis's clock."""
    found = {text(name): text(value) for name, value in fields.items()}
    return AgentRecord(
        id=found["id"],
        pool=found["pool"],
        slots=int(found["slots"]),
        status=found["status"],
        running=int(found["running"]),
        host=found.get("host", ""),
        pid=int(found.get("pid", 0)),
        heartbeat_age=max(0.0, now - int(found["heartbeat"]) / 1000),
        registered=int(found["registered"]) / 1000,
        version=found.get("version", ""),
    )
