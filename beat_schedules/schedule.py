"""When the jobs run."""

from __future__ import annotations

from typing import Any

from beat_schedules.jobs import ARCHIVE, HEALTH, POOLS, REAP, ROLL_UP
from fleet.settings import Settings

HEALTH_SECONDS = 15
HOUR = 3600
DAY = 86_400


def schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `beat_schedule` of a fleet. A job that waits longer than its period is dropped:
    the next one does the same."""
    return {
        "reap-the-dead": _every(settings.config.leases.reap_seconds, REAP),
        "sum-up-health": _every(HEALTH_SECONDS, HEALTH),
        "look-at-the-pools": _every(settings.config.health.look_seconds, POOLS),
        "roll-up-the-ledger": _every(HOUR, ROLL_UP),
        "archive-the-ledger": _every(DAY, ARCHIVE),
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}
