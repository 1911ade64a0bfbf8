"""Keeps what is remembered of ended tasks flat: records expire by themselves, and this drops what
still names them."""

from __future__ import annotations

from fleet.services.connection import Connection
from fleet.services.dead import bound_dead


def retain(fleet: Connection) -> dict[str, int]:
    """Drop the dead letters that are too many, and ids of records that have expired; how many.

    May run in several places at once and be killed anywhere: each page is one script.
    """
    dropped = len(bound_dead(fleet))
    keys = fleet.keys
    expired = sum(fleet.tasks.forget_expired(index) for index in (keys.tasks, keys.dead))
    return {"dead letters": dropped, "expired": expired}
