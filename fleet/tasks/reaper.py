"""What beat does for the fleet: reap the dead, bring back what was lost, sum up the health."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog

from fleet.errors import TaskFailed, TaskNotFound
from fleet.redis.client import redis_errors
from fleet.routing.health import look_at_pools
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.leases.clock import expiry_is_held
from fleet.tasks.record import TaskRecord
from fleet.tasks.rules.retries import MAX_CRASHES
from fleet.tasks.run.outcome import error_json

MAX_REPUBLISHED = 3
"""A message that was lost so often, and is lost again, is dropped by whoever takes it."""

log = structlog.get_logger(__name__)


def reap(fleet: Connection) -> dict[str, list[str]]:
    """Set right what died in the wrong moment; what was done, as lists of ids.

    Agents that are silent are dead. What waits for them, or ran in them, goes to others. A slot, a
    reservation or a message that somebody has lost comes back.

    May run in several places at once and be killed anywhere: each step is one script that
    judges by Redis's clock.
    """
    done: dict[str, list[str]] = {} if expiry_is_held(fleet) else _take_from_the_silent(fleet)
    done["repaired"] = _repair(fleet)
    done.update(_republish(fleet))
    done["orphaned"] = fleet.budgets.upkeep.release_orphans()
    if any(done.values()):
        log.warning("reaped", **{name: ids for name, ids in done.items() if ids})
    return done


def _take_from_the_silent(fleet: Connection) -> dict[str, list[str]]:
    """What is judged by how long somebody has been silent."""
    dead = fleet.routing.agents.reap(fleet.settings.config.leases.dead_after_seconds)
    done = {"dead": dead, "restored": _restore(fleet), "rescued": _rescue(fleet)}
    done.update(requeue_expired(fleet, fleet.tasks.records.expired_leases()))
    return done


def _restore(fleet: Connection) -> list[str]:
    """Put back what the workers of a pool took and did not begin, where all of them are dead."""
    counts = fleet.routing.pools.counts(list(fleet.settings.config.pools))
    dead_after_ms = int(fleet.settings.config.leases.dead_after_seconds * 1000)
    deserted = [name for name, count in counts.items() if not count.live_agents]
    return [
        each for name in deserted for each in fleet.tasks.queue_index.restore(name, dead_after_ms)
    ]


def _rescue(fleet: Connection) -> list[str]:
    """Move what waits for pools without live agents to where others may take it."""
    settings = fleet.settings
    moved = []
    for name, pool in settings.config.pools.items():
        overflow = settings.overflow_queue(pool.agent_type)
        moved += fleet.routing.pools.rescue(name, settings.queue(name), overflow)
    return moved


def _repair(fleet: Connection) -> list[str]:
    """Free slots that a process which died in the wrong moment has left behind."""
    settings = fleet.settings
    pools = settings.config.pools
    return [
        freed
        for name in pools
        for freed in fleet.tasks.queue_index.repair(name, settings.queue(name))
    ]


def _republish(fleet: Connection) -> dict[str, list[str]]:
    """Bring back what is queued by its record and nowhere in the broker."""
    ttl = fleet.settings.config.limits.dead_ttl_seconds
    error = error_json(
        TaskFailed(
            f"its message was lost {MAX_REPUBLISHED + 1} times: workers took it and dropped it; "
            "their logs say why"
        )
    )
    done: dict[str, list[str]] = {"republished": [], "dropped": []}
    for missing in fleet.tasks.queue_index.missing():
        status = fleet.tasks.queue_index.republish(missing, MAX_REPUBLISHED, error, ttl)
        if status != "gone":
            done["dropped" if status == "failed" else status].append(missing.task_id)
    return done


def look_at_health(fleet: Connection) -> dict[str, list[str]]:
    """Take pools that are out of line with their peers out of the rotation, in every agent type."""
    done: dict[str, list[str]] = {}
    for agent_type in fleet.settings.config.agent_types:
        for what, names in look_at_pools(fleet.settings, fleet.routing.pools, agent_type).items():
            done.setdefault(what, []).extend(names)
    return done


def requeue_expired(fleet: Connection, task_ids: Iterable[str]) -> dict[str, list[str]]:
    """Give tasks whose lease has ended to others, or end them after too many crashes."""
    settings = fleet.settings
    done: dict[str, list[str]] = {"requeued": [], "failed": [], "unwanted": []}
    for task_id in task_ids:
        try:
            record = fleet.tasks.records.read(task_id)
        except TaskNotFound:
            fleet.tasks.records.forget_lease(task_id)
            continue
        status = fleet.tasks.records.requeue(
            record,
            waiting_place(settings, record),
            MAX_CRASHES,
        )
        if status == "unwanted":
            fleet.tasks.records.cancel(
                task_id, settings.config.limits.result_ttl_seconds, record.agent
            )
        if status in done:
            done[status].append(task_id)
    return done


def waiting_place(settings: Settings, record: TaskRecord) -> str:
    """The queue in which a task waits without a slot: its one pool's, where it asked for one."""
    if record.pinned in settings.config.pools:
        return settings.queue(record.pinned)
    return settings.overflow_queue(record.agent_type)


def summarize_health(fleet: Connection) -> dict[str, Any]:
    """Count agents by status, look at each pool, and keep the summary for whoever asks.

    What is known of models and request types that are not configured any more is dropped too.
    """
    fleet.models.state.prune(
        {model.name for model in fleet.models.catalogue}, fleet.settings.config.request_types
    )
    counts = fleet.routing.pools.counts(list(fleet.settings.config.pools))
    agents = Counter(agent.status for agent in fleet.routing.agents.agents())
    summary = {
        "agents": dict(agents),
        "pools": {
            name: {
                "live_agents": row.live_agents,
                "in_flight": row.in_flight,
                "capacity": row.capacity,
                "standing": row.health_state,
                "success_rate": round(row.overall.success_rate, 4),
                "response_seconds": row.overall.response_seconds,
            }
            for name, row in counts.items()
        },
        "verdict": "healthy" if all(row.live_agents for row in counts.values()) else "warning",
    }
    with redis_errors(fleet.client):
        seconds, _ = fleet.client.time()
        fleet.client.hset(
            fleet.keys.health, mapping={"at": seconds, "summary": json.dumps(summary)}
        )
    return summary


def last_health(fleet: Connection) -> dict[str, Any]:
    """Beat's last summary with its `age_seconds`, or an empty dictionary before the first."""
    with redis_errors(fleet.client):
        found = fleet.client.hgetall(fleet.keys.health)
        seconds, _ = fleet.client.time()
    if not found:
        return {}
    return {"age_seconds": seconds - int(found[b"at"]), **json.loads(found[b"summary"])}
