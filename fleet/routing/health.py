"""Ejects pools that are outliers among their peers, and returns the pools that are needed.

`fleet.routing.rules.health` decides. This module gathers the facts and writes.
"""

from __future__ import annotations

from dataclasses import fields

from fleet.routing.pools_store import Pools
from fleet.routing.rules.health import HealthPolicy, PoolHealth, judge, needed
from fleet.routing.rules.pools import PoolCounts
from fleet.settings import FleetConfig, Settings
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


def health_policy(config: FleetConfig) -> HealthPolicy:
    """The health policy in the configuration."""
    section = config.health
    return HealthPolicy(**{f.name: getattr(section, f.name) for f in fields(HealthPolicy)})


def look_at_pools(settings: Settings, pools: Pools, agent_type: str) -> dict[str, list[str]]:
    """Check all pools of an agent type once. Returns the `ejected` and the `readmitted` pools.

    May run in several places at once: each step is one script that checks the state again.
    """
    names = [n for n, pool in settings.config.pools.items() if pool.agent_type == agent_type]
    counts = pools.counts(names)
    policy = health_policy(settings.config)
    done: dict[str, list[str]] = {"ejected": [], "readmitted": []}
    seen = [_health(name, pool_counts) for name, pool_counts in counts.items()]
    for ejection in judge(seen, policy):
        peers = [name for name in names if name != ejection.pool]
        if pools.eject(ejection.pool, peers, ejection.reason, policy):
            log.warning("pool ejected from rotation", pool=ejection.pool, reason=ejection.reason)
            done["ejected"].append(ejection.pool)
    waiting = pools.waiting(settings.overflow_queue(agent_type))
    for name in needed(seen, waiting, policy):
        if pools.readmit(name):
            log.warning("pool returned to rotation, peers have too few slots", pool=name)
            done["readmitted"].append(name)
    return done


def _health(name: str, counts: PoolCounts) -> PoolHealth:
    return PoolHealth(
        name,
        counts.live_agents,
        counts.health_state,
        counts.overall,
        counts.in_flight,
        counts.openings,
    )
