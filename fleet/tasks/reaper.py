"""Beat's upkeep of tasks: recover from dead workers, republish lost messages, drop what has
expired, and summarize the health.

Every function may run in several processes at once and be killed anywhere: each change is one
script that judges by Redis's clock.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from fleet.errors import TaskFailed, TaskNotFound
from fleet.models.stores import end_cool_downs_of_replaced
from fleet.redis.client import redis_errors
from fleet.routing.health import look_at_pools
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import bound_dead
from fleet.tasks.record import TaskRecord
from fleet.tasks.rules import MAX_CRASHES
from fleet.tasks.run.outcome import error_json
from fleet.telemetry.logger import get_logger

MAX_REPUBLISHED = 3
"""Republications of one message. A message that is lost once more kills its task: a worker takes it
and drops it each time."""

log = get_logger(__name__)


def reap(fleet: Connection) -> dict[str, list[str]]:
    """Recover from crashed processes; the ids of what was recovered, by kind.

    Silent agents are marked dead. Their waiting and running tasks go to other agents. Leaked slots
    and reservations are freed, and lost messages are published again.
    """
    done: dict[str, list[str]] = {} if expiry_is_held(fleet) else _recover_from_dead(fleet)
    done["repaired"] = _repair(fleet)
    done.update(_republish(fleet))
    done["orphaned"] = fleet.budgets.upkeep.release_orphans()
    if any(done.values()):
        log.warning("reaped", **{name: ids for name, ids in done.items() if ids})
    return done


def _recover_from_dead(fleet: Connection) -> dict[str, list[str]]:
    """Recover the tasks of agents and runs that have been silent for too long."""
    dead = fleet.routing.agents.reap(fleet.settings.config.leases.dead_after_seconds)
    done = {"dead": dead, "restored": _restore(fleet), "rescued": _rescue(fleet)}
    done.update(requeue_expired(fleet, fleet.tasks.records.expired_leases()))
    return done


def _restore(fleet: Connection) -> list[str]:
    """Return to their queue the messages that a pool's workers took but did not claim, if all
    workers of the pool are dead."""
    counts = fleet.routing.pools.counts(list(fleet.settings.config.pools))
    dead_after_ms = int(fleet.settings.config.leases.dead_after_seconds * 1000)
    deserted = [name for name, count in counts.items() if not count.live_agents]
    return [
        each for name in deserted for each in fleet.tasks.queue_index.restore(name, dead_after_ms)
    ]


def _rescue(fleet: Connection) -> list[str]:
    """Move the tasks that wait for a pool without live agents to the overflow queue of its type."""
    settings = fleet.settings
    moved = []
    for name, pool in settings.config.pools.items():
        overflow = settings.overflow_queue(pool.agent_type)
        moved += fleet.routing.pools.rescue(name, settings.queue(name), overflow)
    return moved


def _repair(fleet: Connection) -> list[str]:
    """Free the slots that crashed processes still hold."""
    settings = fleet.settings
    pools = settings.config.pools
    return [
        freed
        for name in pools
        for freed in fleet.tasks.queue_index.repair(name, settings.queue(name))
    ]


def _republish(fleet: Connection) -> dict[str, list[str]]:
    """Publish again the messages of tasks that are queued by their record but in no queue."""
    ttl = fleet.settings.config.limits.dead_ttl_seconds
    error = error_json(
        TaskFailed(
            f"its message was lost {MAX_REPUBLISHED + 1} times: workers took it and dropped it; "
            "see their logs for the reason"
        )
    )
    done: dict[str, list[str]] = {"republished": [], "dropped": []}
    for missing in fleet.tasks.queue_index.missing():
        status = fleet.tasks.queue_index.republish(missing, MAX_REPUBLISHED, error, ttl)
        if status != "gone":
            done["dropped" if status == "failed" else status].append(missing.task_id)
    return done


def look_at_health(fleet: Connection) -> dict[str, list[str]]:
    """Eject pools that perform worse than their peers, for every agent type."""
    done: dict[str, list[str]] = {}
    for agent_type in fleet.settings.config.agent_types:
        for what, names in look_at_pools(fleet.settings, fleet.routing.pools, agent_type).items():
            done.setdefault(what, []).extend(names)
    return done


def requeue_expired(fleet: Connection, task_ids: Iterable[str]) -> dict[str, list[str]]:
    """Requeue tasks whose lease has expired, or fail them after too many crashes; ids by
    outcome."""
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
    """The queue in which a task waits for any worker: the overflow queue of its agent type, or the
    queue of the pool that its submission named."""
    if record.pinned in settings.config.pools:
        return settings.queue(record.pinned)
    return settings.overflow_queue(record.agent_type)


def summarize_health(fleet: Connection) -> dict[str, Any]:
    """Store and return a summary: agents by status, the state of each pool, a verdict.

    Also drops learned facts of models and request types that are no longer configured.
    """
    end_cool_downs_of_replaced(fleet.models)
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


def retain(fleet: Connection) -> dict[str, int]:
    """Drop surplus dead letters, and what still names or counts expired records; how many of each.

    The records themselves expire in Redis.
    """
    dropped = len(bound_dead(fleet))
    keys = fleet.keys
    expired = sum(fleet.tasks.records.forget_expired(index) for index in (keys.tasks, keys.dead))
    with redis_errors(fleet.client):
        # Slots of no pool: earlier versions noted them for plain Celery workers.
        fleet.client.delete(keys.pool("").in_flight)
    if fleet.tasks.queue_index.recount_waiting():
        log.warning("reset the counts of waiting tasks: no task waits, but some were counted")
    return {"dead letters": dropped, "expired": expired}


def expiry_is_held(fleet: Connection) -> bool:
    """Check Redis's clock for a step; whether a step now forbids to judge anything as expired."""
    look = fleet.clock.look()
    if look.step_ms:
        log.warning(
            "Redis's clock was set; no lease ends and no agent is dead until the hold is over",
            step_seconds=look.step_ms / 1000,
            hold_seconds=fleet.clock.hold_ms / 1000,
        )
    if look.step_ms < 0:
        for task_id in fleet.tasks.records.running():
            fleet.clock.shorten(task_id)
    return look.is_held
