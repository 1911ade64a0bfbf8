"""Takes pools that are out of line with their peers out of the rotation, and puts back those
that are needed: `fleet.routing.rules.health` decides, this gathers the facts and writes."""

from __future__ import annotations

from dataclasses import fields

import structlog

from fleet.routing.pools_store import PoolCounts, Pools
from fleet.routing.rules.health import HealthPolicy, PoolHealth, judge, needed
from fleet.settings import FleetConfig, Settings

log = structlog.get_logger(__name__)


def health_policy(config: FleetConfig) -> HealthPolicy:
    """The policy of the configuration."""
    section = config.health
    return HealthPolicy(**{f.name: getattr(section, f.name) for f in fields(HealthPolicy)})


def look_at_pools(settings: Settings, pools: Pools, agent_type: str) -> dict[str, list[str]]:
    """Look at all pools of an agent type once; which were taken out, and which put back.

    May run in several places at once: each step is one script that looks for itself.
    """
    names = [n for n, pool in settings.config.pools.items() if pool.agent_type == agent_type]
    counts = pools.counts(names)
    policy = health_policy(settings.config)
    done: dict[str, list[str]] = {"ejected": [], "readmitted": []}
    seen = [_health(name, row) for name, row in counts.items()]
    for ejection in judge(seen, policy):
        peers = [name for name in names if name != ejection.pool]
        if pools.eject(ejection.pool, peers, ejection.reason, policy):
            log.warning("a pool is taken out", pool=ejection.pool, because=ejection.reason)
            done["ejected"].append(ejection.pool)
    waiting = pools.waiting(settings.overflow_queue(agent_type))
    for name in needed(seen, waiting, policy):
        if pools.readmit(name):
            log.warning("a pool is put back, since its peers do not suffice", pool=name)
            done["readmitted"].append(name)
    return done


def _health(name: str, row: PoolCounts) -> PoolHealth:
    return PoolHealth(
        name, row.live_agents, row.standing, row.overall, row.in_flight, row.open_slots
    )
