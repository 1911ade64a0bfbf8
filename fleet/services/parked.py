"""Brings parked tasks back: each is queued again when its cost fits the limits in force."""

from __future__ import annotations

from fleet.core.model_decision import ModelDecision
from fleet.errors import TaskNotFound
from fleet.services.connection import Connection
from fleet.services.controls import Controls
from fleet.services.money_rules import money_rules
from fleet.services.upkeep import waiting_place


def unpark(fleet: Connection) -> list[str]:
    """Queue the parked tasks whose time has come and whose cost fits; their ids.

    May run in several places at once and be killed anywhere: each task is one script.
    """
    due = fleet.parking.due()
    if not due:
        return []
    policy = fleet.policies.read()
    controls = Controls(fleet.settings.config, policy)
    return [each for each in due if _unpark(fleet, each, policy.version, controls)]


def _unpark(fleet: Connection, task_id: str, version: str, controls: Controls) -> bool:
    try:
        record = fleet.tasks.read(task_id)
    except TaskNotFound:
        fleet.parking.forget(task_id)
        return False
    assert record.model_decision is not None
    decision = ModelDecision.from_json(record.model_decision)
    names = (record.request_type, record.tenant, record.agent_type)
    rules = money_rules(controls, *names, decision)
    queue = waiting_place(fleet.settings, record)
    return fleet.parking.unpark(record, queue, version, rules) == "queued"
