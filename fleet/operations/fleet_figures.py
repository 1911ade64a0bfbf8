"""The figures by which others scale and watch the fleet: exact, fleet-wide, from one round trip.

A figure that cannot be known is an error, never a zero: whoever scales by a zero ends workers that
are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from fleet.errors import Unavailable
from fleet.operations.health import LATE_SECONDS
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.routing.agents_store import AgentRecord, parse_agent
from fleet.settings import FleetConfig
from fleet.tasks.connection import Connection
from fleet.tasks.waiting.queue_index_store import Waiting

NOTHING = Waiting(0, None)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """One pool. Tasks and slots as counts.

    `own` waits in the pool's queue, over all priorities. `overflow_share` are the tasks of the
    overflow queue of its agent type that fall to it, see `overflow_shares`. `running` counts the
    messages that its workers hold.
    """

    name: str
    agent_type: str
    own: Waiting
    overflow: Waiting
    overflow_share: int
    running: int

    @property
    def queued(self) -> int:
        return self.own.messages + self.overflow_share

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest task that the pool may take has waited. 0 if none waits."""
        return max(self.own.oldest_seconds or 0.0, self.overflow.oldest_seconds or 0.0)


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """The pools by name, the overflow queues by agent type, and the agents, at one moment."""

    pools: Mapping[str, PoolFigures]
    overflow: Mapping[str, Waiting]
    agents: Sequence[AgentRecord]


class FiguresReader:
    """Reads the figures of one fleet, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._config = connection.settings.config
        # The ids of the last reading, so that the next one asks for them in its only round trip.
        self._agent_ids: dict[str, None] = {}

    def read(self) -> FleetFigures:
        """All figures. One round trip, and one more when agents have come.

        Raises `Unavailable` if Redis does not answer, or if beat has not looked at the fleet for a
        minute: then dead agents and lost tasks are still counted, or Redis has lost its data.
        """
        connection, known = self._connection, self._agent_ids
        with redis_errors(connection.client):
            pipeline = connection.client.pipeline(transaction=True)
            pipeline.time()
            pipeline.hget(connection.keys.health, "at")
            pipeline.smembers(connection.keys.agents)
            for pool in self._config.pools:
                pipeline.hlen(connection.keys.pool(pool).unacked)
            for agent_id in known:
                pipeline.hgetall(connection.keys.agent(agent_id))
            connection.tasks.queue_index.add_waiting(pipeline)
            (seconds, us), looked_at, members, *rest = pipeline.execute()
            ids = dict.fromkeys(map(text, members))
            came = self._rows([each for each in ids if each not in known])
        self._agent_ids = ids
        _check_fresh(seconds, looked_at)
        held, rest = rest[: len(self._config.pools)], rest[len(self._config.pools) :]
        listed = [row for each, row in zip(known, rest, strict=False) if each in ids]
        rows, answers = [*listed, *came], rest[len(known) :]
        now_us = seconds * 1_000_000 + us
        waiting = connection.tasks.queue_index.parse_waiting(now_us, answers)
        return FleetFigures(
            self._pools(waiting, held),
            {name: self._overflow(waiting, name) for name in self._config.agent_types},
            self._agents(rows, now_us / 1e6),
        )

    def _rows(self, ids: Sequence[str]) -> list[Any]:
        if not ids:
            return []
        pipeline = self._connection.client.pipeline(transaction=False)
        for agent_id in ids:
            pipeline.hgetall(self._connection.keys.agent(agent_id))
        return pipeline.execute()

    def _agents(self, rows: Sequence[Mapping[Any, Any]], now: float) -> list[AgentRecord]:
        found = [parse_agent(fields, now) for fields in rows if fields]
        return sorted(found, key=lambda agent: (agent.pool, agent.id))

    def _overflow(self, waiting: Mapping[str, Waiting], agent_type: str) -> Waiting:
        return waiting.get(self._connection.settings.overflow_queue(agent_type), NOTHING)

    def _pools(
        self, waiting: Mapping[str, Waiting], held: Sequence[int]
    ) -> dict[str, PoolFigures]:
        settings, found = self._connection.settings, {}
        for (name, pool), running in zip(self._config.pools.items(), held, strict=True):
            overflow = self._overflow(waiting, pool.agent_type)
            share = overflow_shares(self._config, pool.agent_type, overflow.messages)[name]
            own = waiting.get(settings.queue(name), NOTHING)
            found[name] = PoolFigures(name, pool.agent_type, own, overflow, share, running)
        return found


def overflow_shares(config: FleetConfig, agent_type: str, messages: int) -> dict[str, int]:
    """How many tasks of an overflow queue fall to each pool of the agent type, by the slots that
    the pool may have at most. Rounded up, so that one waiting task starts a worker somewhere."""
    slots = {
        name: pool.max * pool.slots
        for name, pool in config.pools.items()
        if pool.agent_type == agent_type
    }
    total = sum(slots.values())
    return {name: ceil(messages * each / total) for name, each in slots.items()}


def _check_fresh(now: int, looked_at: Any) -> None:
    if looked_at is None:
        raise Unavailable(
            "beat has not looked at this fleet yet, so its figures are not known; start beat with "
            "`fleet service beat`"
        )
    age = now - int(looked_at)
    if age > LATE_SECONDS:
        raise Unavailable(
            f"beat last looked at the fleet {age} s ago, so its figures may be wrong; start beat "
            "with `fleet service beat`, or read in its log why its jobs fail"
        )
