"""What makes a pool as large as it should be: local processes, Kubernetes, KEDA, or nobody.

A package adds an actuator with an entry point of the group `fleet.scaling_actuators` that names an
`ActuatorFactory`, see `fleet.scaling.actuators`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from fleet.scaling.rules.readings import AgentReading


class Actuator(Protocol):
    """Starts and ends the workers of pools. Every method may be called again after a crash."""

    name: str
    #: Whether it ends those agents that the fleet drains. Else the fleet drains none.
    ends_drained: bool

    def check(self) -> None:
        """Raise `InvalidConfig` if this actuator cannot scale the configured pools."""

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Learn of all live agents, before the decision is applied. Raises `RetryLater`."""

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Make a pool have so many workers that take tasks.

        `leaving` are the ids of agents that are drained, run no task and may end now. Returns at
        once; the workers start and end later. Raises `RetryLater` if it cannot act now.
        """
