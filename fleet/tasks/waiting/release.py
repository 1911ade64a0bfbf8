"""Queues what is due: delayed tasks, tasks on hold, delayed messages of plain Celery, and tasks
whose lease has expired.

Beat looks every few seconds and each worker twice a second. So what is due is queued within a
second even if beat is down.
"""

from __future__ import annotations

from fleet.budgets.controls import Controls
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import RetryLater, TaskNotFound
from fleet.models.rules.decision import ModelDecision
from fleet.tasks.connection import Connection
from fleet.tasks.reaper import expiry_is_held, requeue_expired, waiting_place
from fleet.tasks.run.outcome import error_json
from fleet.tasks.submission.refusals import over_error
from fleet.tasks.submission.reservation import money_rules
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


def release_due(fleet: Connection) -> list[str]:
    """Queue the delayed tasks and tasks on hold that are due and whose cost fits; their ids.

    Also queues delayed messages that are due, and tasks whose lease has expired. May run in several
    processes at once and be killed anywhere: each task is one script.
    """
    held = expiry_is_held(fleet)
    due = fleet.tasks.schedule.due()
    for message in due.messages:
        fleet.tasks.schedule.deliver(message)
    ended = requeue_expired(fleet, () if held else due.ended)
    if any(ended.values()):
        log.warning("leases expired", **ended)
    if not due.delayed and not due.on_hold:
        return []
    policy = fleet.policy.store.read()
    controls = Controls(fleet.settings.config, policy)
    waiting = due.delayed + fleet.tasks.schedule.oldest_first(due.on_hold)
    return [each for each in waiting if _try_to_release(fleet, each, policy.version, controls)]


def _try_to_release(fleet: Connection, task_id: str, version: str, controls: Controls) -> bool:
    """As `_release`, but an unreadable task does not stop the others."""
    try:
        return _release(fleet, task_id, version, controls)
    except RetryLater:
        raise
    except Exception:
        log.exception("a task that is due could not be queued", task=task_id)
        return False


def _release(fleet: Connection, task_id: str, version: str, controls: Controls) -> bool:
    try:
        record = fleet.tasks.records.read(task_id)
    except TaskNotFound:
        fleet.tasks.on_hold.forget(task_id)
        return False
    assert record.model_decision is not None
    decision = ModelDecision.from_json(record.model_decision)
    names = (record.request_type, record.tenant, record.agent_type)
    rules = money_rules(controls, *names, decision)
    queue = waiting_place(fleet.settings, record)
    done = fleet.tasks.on_hold.release(record, queue, version, rules)
    if done.status == "over":
        _refuse(fleet, task_id, queue, Refusal.parse(done.detail))
    return done.status == "queued"


def _refuse(fleet: Connection, task_id: str, queue: str, refusal: Refusal) -> None:
    ttl = fleet.settings.config.limits.dead_ttl_seconds
    if fleet.tasks.on_hold.refuse(task_id, queue, error_json(over_error(refusal)), ttl):
        log.warning("a delayed task was refused", task=task_id, reason=refusal.sentence)
