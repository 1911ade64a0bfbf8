"""The schedule of the jobs."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

from fleet.broker.known_tasks import (
    ANCHOR,
    ARCHIVE,
    BUDGETS,
    HEALTH,
    POOLS,
    PRUNE,
    REAP,
    RETAIN,
    ROLL_UP,
    ROTATE,
    SCALE,
    SPEND,
    UNPARK,
)
from fleet.settings import Settings

HEALTH_SECONDS = 15
UNPARK_SECONDS = 5
BUDGETS_SECONDS = 60
ROTATE_SECONDS = 5
RETAIN_SECONDS = 300
HOUR = 3600
NIGHTLY = crontab(hour=0, minute=17)
"""UTC. A fixed time, because an interval would start anew with each restart of beat."""
LATER_AT_NIGHT = crontab(hour=0, minute=47)
"""UTC."""
MORNINGS = crontab(hour=2, minute=0)
"""UTC. By then yesterday's tasks have ended and are settled."""


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `beat_schedule` of a fleet."""
    return {
        "reap-the-dead": _every(settings.config.leases.reap_seconds, REAP),
        "sum-up-health": _every(HEALTH_SECONDS, HEALTH),
        "look-at-the-pools": _every(settings.config.health.look_seconds, POOLS),
        "scale-the-pools": _every(settings.config.scaling.seconds, SCALE),
        "bring-back-the-parked": _every(UNPARK_SECONDS, UNPARK),
        "look-at-the-budgets": _every(BUDGETS_SECONDS, BUDGETS),
        "rotate-the-secrets": _every(ROTATE_SECONDS, ROTATE),
        "keep-memory-flat": _every(RETAIN_SECONDS, RETAIN),
        "anchor-the-audit": _every(HOUR, ANCHOR),
        "roll-up-the-ledger": _every(HOUR, ROLL_UP),
        "archive-the-ledger": {"task": ARCHIVE, "schedule": NIGHTLY},
        "prune-the-book": {"task": PRUNE, "schedule": LATER_AT_NIGHT},
        "report-the-spend": {"task": SPEND, "schedule": MORNINGS},
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds}
