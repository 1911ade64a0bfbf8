"""The fleet's metrics in the format of Prometheus, made from one reading of the figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.operations.fleet_figures import FleetFigures
from fleet.routing.agents_store import AgentRecord
from fleet.settings import FleetConfig

STATUSES = ("idle", "busy", "maintenance", "failed")


class FleetCollector(Collector):
    """What one scrape shows."""

    def __init__(self, config: FleetConfig, figures: FleetFigures) -> None:
        self._config = config
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """The metrics, each with all its samples."""
        yield from self._agents(self._figures.agents)
        yield from self._pools()
        yield from self._overflow()

    def _agents(self, agents: Sequence[AgentRecord]) -> Iterator[Metric]:
        pools = self._config.pools
        known = [agent for agent in agents if agent.pool in pools]
        counts = Counter((pools[agent.pool].agent_type, agent.status) for agent in known)
        by_status = _gauge("ai_agents", "Agents by agent type and status.", "type", "status")
        for agent_type in self._config.agent_types:
            for status in STATUSES:
                by_status.add_metric((agent_type, status), counts[agent_type, status])
        yield by_status
        load = _gauge("ai_agent_load", "Share of an agent's slots that run a task.", "agent_id")
        for agent in known:
            if agent.status != "failed":
                load.add_metric((agent.id,), agent.running / agent.slots)
        yield load

    def _pools(self) -> Iterator[Metric]:
        slots: Counter[str] = Counter()
        for agent in self._figures.agents:
            if agent.status in ("idle", "busy"):
                slots[agent.pool] += agent.slots
        found = self._figures.pools.values()
        yield _by_pool(
            "ai_agent_queue_length",
            "Tasks that wait for a pool: in its queue over all priorities, and its share of the "
            "overflow queue of its agent type.",
            {pool.name: pool.queued for pool in found},
        )
        yield _by_pool(
            "fleet_queue_oldest_seconds",
            "How long the oldest task that the pool may take has waited.",
            {pool.name: pool.oldest_seconds for pool in found},
        )
        yield _by_pool(
            "fleet_running_tasks",
            "Tasks that the pool's workers hold.",
            {pool.name: pool.running for pool in found},
        )
        yield _by_pool(
            "fleet_desired_workers",
            "Workers that the pool should have.",
            {pool.name: pool.desired for pool in found},
        )
        yield _by_pool(
            "fleet_slots",
            "Slots of the pool's agents that take tasks.",
            {name: slots[name] for name in self._config.pools},
        )

    def _overflow(self) -> Iterator[Metric]:
        length = _gauge(
            "fleet_overflow_queue_length",
            "Tasks that wait for any pool of an agent type.",
            "agent_type",
        )
        for agent_type, waiting in self._figures.overflow.items():
            length.add_metric((agent_type,), waiting.messages)
        yield length


def _gauge(name: str, description: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, labels=labels)


def _by_pool(name: str, description: str, values: dict[str, float]) -> Metric:
    found = _gauge(name, description, "pool")
    for pool, value in values.items():
        found.add_metric((pool,), value)
    return found
