"""Giving a running task back, where its worker is told to stop: another one runs it at once."""

from __future__ import annotations

import structlog

from fleet.errors import FleetError, LeaseLost, RetryLater
from fleet.redis.retry import retry_while_away
from fleet.settings import Settings
from fleet.tasks.reaper import waiting_place
from fleet.tasks.store import Lease, Tasks

PATIENCE_SECONDS = 1.0
"""A worker that stops waits so long for a Redis that is away: its grace is short."""

log = structlog.get_logger(__name__)


class GivenBack(Exception):
    """A delivery ended without an end of its task. `is_queued` says whether the task waits in a
    queue by now; else the message that was delivered is the only one, and has to go back."""

    def __init__(self, task_id: str, is_queued: bool, why: str = "its worker stops") -> None:
        super().__init__(f"task {task_id} was given back: {why}")
        self.is_queued = is_queued


def give_back(settings: Settings, tasks: Tasks, lease: Lease) -> FleetError | GivenBack:
    """Give a task back; what to raise then.

    Where Redis does not answer the lease ends by itself, and the reaper brings the task back.
    """
    try:
        record = retry_while_away(lambda: tasks.read(lease.task_id), PATIENCE_SECONDS)
        place = waiting_place(settings, record)
        status = retry_while_away(lambda: tasks.give_back(lease, place), PATIENCE_SECONDS)
        if status == "unwanted":
            ttl = settings.config.limits.result_ttl_seconds
            tasks.cancel(lease.task_id, ttl, record.agent)
    except RetryLater as error:
        log.warning("a task could not be given back", task=lease.task_id, error=str(error))
        return GivenBack(lease.task_id, is_queued=True)
    if status == "lost":
        return LeaseLost(f"task {lease.task_id} runs elsewhere now")
    log.info("given back", task=lease.task_id)
    return GivenBack(lease.task_id, is_queued=status != "no_message")
