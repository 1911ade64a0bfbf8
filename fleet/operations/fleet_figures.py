"""The figures by which others scale and watch the fleet: exact, fleet-wide, from one round trip.

A figure that cannot be known is an error, never a zero: whoever scales by a zero ends workers that
are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.errors import Unavailable
from fleet.redis.client import redis_errors
from fleet.redis.scripts import text
from fleet.routing.agents_store import AgentRecord, parse_agent
from fleet.scaling.rules.readings import shares
from fleet.tasks.connection import Connection
from fleet.tasks.waiting.queue_index_store import Waiting

NOTHING = Waiting(0, None)
LATE_SECONDS = 60.0
LATE_PERIODS = 3
"""A decision that is older than both is late. Another beat takes over within 30 seconds."""


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """One pool. Tasks and slots as counts.

    `own` waits in the pool's queue, over all priorities. `overflow_share` are the tasks of the
    overflow queue of its agent type that fall to it, by the slots that it may have. `running`
    counts the messages that its workers hold. `desired` is how many workers it should have.
    """

    name: str
    agent_type: str
    own: Waiting
    overflow: Waiting
    overflow_share: int
    running: int
    desired: int

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

    def read(self, *, with_agents: bool = True) -> FleetFigures:
        """All figures, or those without the agents. One round trip, and one more when agents have
        come.

        Raises `Unavailable` if Redis does not answer, or if the last decision on a pool's size is
        too old: then dead agents and lost tasks are still counted, or Redis has lost its data.
        """
        connection, known = self._connection, self._agent_ids if with_agents else {}
        with redis_errors(connection.client):
            pipeline = connection.client.pipeline(transaction=True)
            pipeline.time()
            for pool in map(connection.keys.pool, self._config.pools):
                pipeline.hlen(pool.unacked)
                pipeline.hget(pool.facts, "maintenance")
                pipeline.hmget(pool.scaling, "at", "desired")
            connection.tasks.queue_index.add_waiting(pipeline)
            place = len(pipeline)
            for agent_id in known:
                pipeline.hgetall(connection.keys.agent(agent_id))
            if with_agents:
                pipeline.smembers(connection.keys.agents)
            answers = pipeline.execute()
            rows = self._agent_rows(known, answers[place:]) if with_agents else []
        (seconds, us), *answers = answers[:place]
        now_us, size = seconds * 1_000_000 + us, 3 * len(self._config.pools)
        waiting = connection.tasks.queue_index.parse_waiting(now_us, answers[size:])
        agents = [parse_agent(fields, now_us / 1e6) for fields in rows if fields]
        return FleetFigures(
            self._pools(waiting, answers[:size], now_us / 1e6),
            {name: self._overflow(waiting, name) for name in self._config.agent_types},
            sorted(agents, key=lambda agent: (agent.pool, agent.id)),
        )

    def _agent_rows(self, known: Mapping[str, None], answers: Sequence[Any]) -> list[Any]:
        """The hashes of all agents, from those of the known ones and the ids of all."""
        *rows, members = answers
        ids = dict.fromkeys(map(text, members))
        self._agent_ids = ids
        listed = [row for each, row in zip(known, rows, strict=True) if each in ids]
        came = [each for each in ids if each not in known]
        if not came:
            return listed
        pipeline = self._connection.client.pipeline(transaction=False)
        for agent_id in came:
            pipeline.hgetall(self._connection.keys.agent(agent_id))
        return [*listed, *pipeline.execute()]

    def _overflow(self, waiting: Mapping[str, Waiting], agent_type: str) -> Waiting:
        return waiting.get(self._connection.settings.overflow_queue(agent_type), NOTHING)

    def _pools(
        self, waiting: Mapping[str, Waiting], rows: Sequence[Any], now: float
    ) -> dict[str, PoolFigures]:
        """The pools, from three answers for each: messages held, maintenance, last decision."""
        settings, found = self._connection.settings, {}
        held, maintenance, decisions = (
            dict(zip(self._config.pools, rows[place::3], strict=True)) for place in range(3)
        )
        shared: dict[str, int] = {}
        for agent_type in self._config.agent_types:
            weights = {
                name: 0 if maintenance[name] else pool.max * pool.slots
                for name, pool in self._config.pools.items()
                if pool.agent_type == agent_type
            }
            shared |= shares(self._overflow(waiting, agent_type).messages, weights)
        for name, pool in self._config.pools.items():
            found[name] = PoolFigures(
                name,
                pool.agent_type,
                waiting.get(settings.queue(name), NOTHING),
                self._overflow(waiting, pool.agent_type),
                shared[name],
                held[name],
                self._desired(name, now, *decisions[name]),
            )
        return found

    def _desired(self, name: str, now: float, at_ms: Any, desired: Any) -> int:
        """The decision on a pool's size. Raises `Unavailable` if there is none, or a late one."""
        if at_ms is None or desired is None:
            raise Unavailable(
                f"beat has not decided on the size of {name} yet, so its figures are not known; "
                "start beat with `fleet service beat`"
            )
        age = now - int(at_ms) / 1000
        if age > max(LATE_SECONDS, LATE_PERIODS * self._config.scaling.seconds):
            raise Unavailable(
                f"beat last decided on the size of {name} {age:.0f} s ago, so its figures may be "
                "wrong; start beat with `fleet service beat`, or read in its log why its jobs fail"
            )
        return int(desired)
