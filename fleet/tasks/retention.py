"""Keeps what is remembered of ended tasks flat: records expire by themselves, and this drops what
still names them, and what counts them."""

from __future__ import annotations

import structlog

from fleet.redis.client import redis_errors
from fleet.tasks.connection import Connection
from fleet.tasks.dead_letters import bound_dead

log = structlog.get_logger(__name__)


def retain(fleet: Connection) -> dict[str, int]:
    """Drop the dead letters that are too many, and ids of records that have expired; how many.

    May run in several places at once and be killed anywhere: each page is one script.
    """
    dropped = len(bound_dead(fleet))
    keys = fleet.keys
    expired = sum(fleet.tasks.records.forget_expired(index) for index in (keys.tasks, keys.dead))
    with redis_errors(fleet.client):
        # Slots of no pool, which workers that are no agents have once noted here.
        fleet.client.delete(keys.pool("").in_flight)
    if fleet.tasks.queue_index.recount_waiting():
        log.warning("tasks were counted as waiting whose records are gone; nobody waits")
    return {"dead letters": dropped, "expired": expired}
