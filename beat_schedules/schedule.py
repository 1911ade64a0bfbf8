"""When the jobs run."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab

from beat_schedules.jobs import ARCHIVE, HEALTH, POOLS, REAP, ROLL_UP, SPEND
from fleet.settings import Settings

HEALTH_SECONDS = 15
HOUR = 3600
DAY = 86_400
SPEND_HOUR = 2
"""UTC. By then what began yesterday has ended and is settled."""


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `beat_schedule` of a fleet. A job that waits longer than its period is dropped:
    the next one does the same."""
    return {
        "reap-the-dead": _every(settings.config.leases.reap_seconds, REAP),
        "sum-up-health": _every(HEALTH_SECONDS, HEALTH),
        "look-at-the-pools": _every(settings.config.health.look_seconds, POOLS),
        "roll-up-the-ledger": _every(HOUR, ROLL_UP),
        "archive-the-ledger": _every(DAY, ARCHIVE),
        "report-the-spend": {
            "task": SPEND,
            "schedule": crontab(hour=SPEND_HOUR, minute=0),
            "options": {"expires": DAY},
        },
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}
