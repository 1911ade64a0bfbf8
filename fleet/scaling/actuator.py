"""What makes a pool as large as it should be: local processes, Kubernetes, KEDA, or nobody.

A package adds an actuator with an entry point of the group `fleet.scaling_actuators` that names a
function from the fleet's connection to an `Actuator`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol


class SeenAgent(Protocol):
    """An agent that takes tasks or is drained to end."""

    @property
    def id(self) -> str:
        """`POOL-PID@HOST`."""
    @property
    def running(self) -> int:
        """How many tasks it runs."""
    @property
    def registered(self) -> float:
        """When it became ready, in seconds since 1970."""


class Actuator(Protocol):
    """Starts and ends the workers of pools. Every method may be called again after a crash."""

    name: str

    def check(self) -> None:
        """Raise `InvalidConfig` if this actuator cannot scale the configured pools."""

    def note_agents(self, agents: Iterable[SeenAgent], leaving: Collection[str]) -> None:
        """Take note of all agents, before `apply`. `leaving` are the ids of those that are drained
        to end. Raises `RetryLater` if it cannot act now."""

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Make a pool have so many workers that take tasks.

        `leaving` are the ids of agents that are drained, run no task and may end now. Returns at
        once; the workers start and end later. Raises `RetryLater` if it cannot act now.
        """
