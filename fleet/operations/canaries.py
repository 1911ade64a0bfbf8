"""One small task for each agent type, for `fleet deploy smoke`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fleet.agent import AgentSpec
from fleet.errors import InvalidRequest
from fleet.settings import FleetConfig
from fleet.text import unknown


@dataclass(frozen=True, slots=True)
class Canary:
    """A task to submit, pinned to a pool if `pool` is not None."""

    agent_type: str
    request_type: str
    payload: Mapping[str, Any]
    pool: str | None = None


def canaries(
    config: FleetConfig,
    agents: Mapping[str, AgentSpec],
    pools: Collection[str],
    payloads: Mapping[str, Mapping[str, Any]],
) -> tuple[list[Canary], list[str]]:
    """A canary for each agent type that has a pool, or for each of `pools`; and a sentence for each
    agent type that is left out.

    `payloads`, by request type, come before those that the agents announce. Raises `InvalidRequest`
    for an unknown pool or request type.
    """
    for name in pools:
        if name not in config.pools:
            raise InvalidRequest(unknown("pool", name, config.pools))
    for name in payloads:
        if name not in config.request_types:
            raise InvalidRequest(unknown("request type", name, config.request_types))
    found: list[Canary] = []
    notes: list[str] = []
    for agent_type, pool in _targets(config, pools):
        requests = [n for n, r in config.request_types.items() if r.agent_type == agent_type]
        given = [name for name in requests if name in payloads]
        announced = agents[agent_type].canary if agent_type in agents else None
        if given:
            found += [Canary(agent_type, name, payloads[name], pool) for name in given]
        elif requests and announced:
            found.append(Canary(agent_type, requests[0], announced, pool))
        else:
            lacks = "no request type asks for it" if not requests else "its agent has no canary"
            notes.append(f"{agent_type}: not tried, {lacks}; give a payload by --payloads")
    return found, notes


def _targets(config: FleetConfig, pools: Collection[str]) -> list[tuple[str, str | None]]:
    if pools:
        return [(config.pools[name].agent_type, name) for name in pools]
    return [(each, None) for each in dict.fromkeys(p.agent_type for p in config.pools.values())]
