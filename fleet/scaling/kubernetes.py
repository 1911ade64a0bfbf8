"""The actuators for Kubernetes: `kubernetes` scales Deployments, `keda` leaves that to KEDA.

Kubernetes chooses which pod ends, by deletion costs. Both write these, so that it chooses an agent
that the fleet has drained, else an idle one, the oldest first. An agent's pod has the name of the
agent's host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from fleet.errors import InvalidConfig
from fleet.routing.agents_store import host_of
from fleet.scaling.cluster import Cluster, connect_cluster
from fleet.scaling.rules.deletion_cost import FIRST, deletion_cost
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import FleetConfig
from fleet.tasks.connection import Connection


class DeletionCosts:
    """Writes the deletion costs of pods when they change."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._written: dict[str, int] = {}

    def put_first(self, leaving: Collection[str]) -> int:
        """Let Kubernetes end the pods of these agents before all others. Returns how many of them
        are not ending yet."""
        for each in leaving:
            self._written[each] = FIRST
        return sum(self._cluster.set_deletion_cost(host_of(each), FIRST) for each in leaving)

    def update(self, agents: Iterable[AgentReading]) -> None:
        """Write the costs that differ from those written last. Forget agents that are gone. A beat
        that takes over writes all of them once."""
        wanted = {
            agent.id: deletion_cost(agent.registered, agent.running, bool(agent.leaving))
            for agent in agents
        }
        self._written = {each: cost for each, cost in self._written.items() if each in wanted}
        for each, cost in wanted.items():
            if self._written.get(each) not in (cost, FIRST):
                self._cluster.set_deletion_cost(host_of(each), cost)
                self._written[each] = cost


class KubernetesActuator:
    """Sets the replicas of each pool's Deployment."""

    name = "kubernetes"
    ends_drained = True

    def __init__(self, settings: FleetConfig, cluster: Cluster) -> None:
        self._config = settings
        self._cluster = cluster
        self._costs = DeletionCosts(cluster)

    def check(self) -> None:
        """Raise `InvalidConfig` if a pool has no Deployment, or two pools have the same."""
        names = {pool: self._deployment(pool) for pool in self._config.pools}
        for name, count in Counter(names.values()).items():
            if count > 1:
                raise InvalidConfig(
                    f"kubernetes.deployment: {count} pools would have the Deployment {name}; "
                    "shorten it, or rename a pool"
                )
        for pool, name in names.items():
            if self._cluster.scale_of(name) is None:
                raise InvalidConfig(
                    f"pools.{pool}: there is no Deployment {name} in namespace "
                    f"{self._cluster.namespace}; install the chart, or correct "
                    "kubernetes.deployment"
                )

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Write the deletion costs that have changed."""
        self._costs.update(agents)

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Set the replicas. A scale-in takes away no more pods than there are agents that may end:
        those that still run tasks are counted until they are done."""
        name = self._deployment(pool)
        scale = self._cluster.scale_of(name)
        if scale is None:
            raise InvalidConfig(f"pools.{pool}: its Deployment {name} is gone; install the chart")
        if workers < scale.replicas:
            if scale.pods > scale.replicas:
                # The last scale-in is not done: Kubernetes still has to end pods.
                return
            present = self._costs.put_first(leaving)
            workers = max(workers, scale.replicas - present)
        if workers != scale.replicas:
            self._cluster.scale(name, workers)

    def _deployment(self, pool: str) -> str:
        return self._config.kubernetes.deployment_of(pool)


class KedaActuator:
    """Leaves the replicas to KEDA, which reads `/scale/POOL` or the queues themselves."""

    name = "keda"
    # KEDA takes away whom Kubernetes chooses, minutes later: drained agents would stand idle.
    ends_drained = False

    def __init__(self, cluster: Cluster) -> None:
        self._costs = DeletionCosts(cluster)

    def check(self) -> None:
        """Nothing can be checked from here: KEDA reads the fleet, not the fleet KEDA."""

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Write the deletion costs that have changed."""
        self._costs.update(agents)

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """KEDA reads the fleet itself."""


def kubernetes_actuator(connection: Connection) -> KubernetesActuator:
    """The actuator `kubernetes` of a fleet."""
    config = connection.settings.config
    return KubernetesActuator(config, connect_cluster(config.kubernetes.namespace))


def keda_actuator(connection: Connection) -> KedaActuator:
    """The actuator `keda` of a fleet."""
    return KedaActuator(connect_cluster(connection.settings.config.kubernetes.namespace))
