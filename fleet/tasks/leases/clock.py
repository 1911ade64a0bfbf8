"""Whether a step of Redis's clock holds up the end of leases, and of whatever else is silent."""

from __future__ import annotations

import structlog

from fleet.tasks.connection import Connection

log = structlog.get_logger(__name__)


def expiry_is_held(fleet: Connection) -> bool:
    """Look at Redis's clock. Whether nobody is to be taken for dead by it now."""
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
