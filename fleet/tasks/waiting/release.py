"""Queues what waits for its time: delayed tasks, parked ones, messages of plain Celery, and tasks
whose lease has ended.

Beat looks every few seconds and each worker twice a second, so that what is due is queued within a
second although beat is down.
"""

from __future__ import annotations

import structlog

from fleet.budgets.controls import Controls
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import RetryLater, TaskNotFound
from fleet.models.rules.decision import ModelDecision
from fleet.tasks.connection import Connection
from fleet.tasks.leases.clock import expiry_is_held
from fleet.tasks.reaper import requeue_expired, waiting_place
from fleet.tasks.run.outcome import error_json
from fleet.tasks.submission.reservation import money_rules, over_error

log = structlog.get_logger(__name__)


def unpark(fleet: Connection) -> list[str]:
    """Queue the delayed and parked tasks whose time has come and whose cost fits; their ids.

    Messages that are due and tasks that lost their worker are queued as well.
    May run in several places at once and be killed anywhere: each task is one script.
    """
    held = expiry_is_held(fleet)
    due = fleet.tasks.schedule.due()
    for message in due.messages:
        fleet.tasks.schedule.deliver(message)
    ended = requeue_expired(fleet, () if held else due.ended)
    if any(ended.values()):
        log.warning("leases ended", **ended)
    if not due.delayed and not due.parked:
        return []
    policy = fleet.policy.store.read()
    controls = Controls(fleet.settings.config, policy)
    waiting = due.delayed + fleet.tasks.schedule.oldest_first(due.parked)
    return [each for each in waiting if _try_to_unpark(fleet, each, policy.version, controls)]


def _try_to_unpark(fleet: Connection, task_id: str, version: str, controls: Controls) -> bool:
    """As `_unpark`; a task that cannot be read keeps no other one waiting."""
    try:
        return _unpark(fleet, task_id, version, controls)
    except RetryLater:
        raise
    except Exception:
        log.exception("a task that is due could not be queued", task=task_id)
        return False


def _unpark(fleet: Connection, task_id: str, version: str, controls: Controls) -> bool:
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
    done = fleet.tasks.on_hold.unpark(record, queue, version, rules)
    if done.status == "over":
        _refuse(fleet, task_id, queue, Refusal.parse(done.detail))
    return done.status == "queued"


def _refuse(fleet: Connection, task_id: str, queue: str, refusal: Refusal) -> None:
    ttl = fleet.settings.config.limits.dead_ttl_seconds
    if fleet.tasks.on_hold.refuse(task_id, queue, error_json(over_error(refusal)), ttl):
        log.warning("refused when its time had come", task=task_id, because=refusal.sentence)
