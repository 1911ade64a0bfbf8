"""Requeues a running task when its worker shuts down, so that another worker runs it at once."""

from __future__ import annotations

from fleet.errors import FleetError, LeaseLost, RetryLater
from fleet.redis.retry import retry_while_away
from fleet.settings import Settings
from fleet.tasks.reaper import waiting_place
from fleet.tasks.store import Lease, Tasks
from fleet.telemetry.logger import get_logger

REDIS_AWAY_SECONDS = 1.0
"""How long a stopping worker waits for a Redis that is away: its grace period is short."""

log = get_logger(__name__)


class Requeued(Exception):
    """The delivery ended without an outcome; another worker runs the task.

    `is_queued` says whether the task is in a queue again. If not, the delivered message is the only
    one, and the worker has to return it to the queue.
    """

    def __init__(
        self, task_id: str, is_queued: bool, reason: str = "its worker shuts down"
    ) -> None:
        super().__init__(f"task {task_id} was requeued: {reason}")
        self.is_queued = is_queued


def requeue_on_shutdown(settings: Settings, tasks: Tasks, lease: Lease) -> FleetError | Requeued:
    """Requeue a task; the error that its run has to raise.

    If Redis does not answer, the lease expires and the reaper requeues the task.
    """
    try:
        record = retry_while_away(lambda: tasks.read(lease.task_id), REDIS_AWAY_SECONDS)
        place = waiting_place(settings, record)
        status = retry_while_away(
            lambda: tasks.requeue_on_shutdown(lease, place), REDIS_AWAY_SECONDS
        )
        if status == "unwanted":
            ttl = settings.config.limits.result_ttl_seconds
            tasks.cancel(lease.task_id, ttl, record.agent)
    except RetryLater as error:
        log.warning("a task could not be requeued", task=lease.task_id, error=str(error))
        return Requeued(lease.task_id, is_queued=True)
    if status == "lost":
        return LeaseLost(f"another run has task {lease.task_id} now")
    log.info("requeued on shutdown", task=lease.task_id)
    return Requeued(lease.task_id, is_queued=status != "no_message")
