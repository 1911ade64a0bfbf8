"""Routing's part of Redis."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.routing.agents_store import AgentStore
from fleet.routing.pools_store import Pools


@dataclass(frozen=True, slots=True)
class RoutingStores:
    """The agents, and the counts and health of their pools."""

    agents: AgentStore
    pools: Pools
