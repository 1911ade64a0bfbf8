"""Users' ratings of results: stored with the task, and learned for the model that answered."""

from __future__ import annotations

from fleet.errors import InvalidRequest, TaskNotFound
from fleet.models.store import learned_field
from fleet.tasks.connection import Connection
from fleet.text import brief, is_number


def rate(fleet: Connection, task_id: str, rating: float) -> None:
    """Rate a task's result, 0 (of no use) to 1 (as good as can be).

    A new rating replaces the old one. Raises `TaskNotFound`, and `InvalidRequest` for a rating out
    of range, a task that has not ended, or a task without a model's answer.
    """
    # NaN compares as false, so it is refused too.
    if not is_number(rating) or not 0.0 <= rating <= 1.0:
        raise InvalidRequest(f"the rating is {brief(rating)}; give a number from 0 to 1")
    record = fleet.tasks.records.read(task_id)
    if not record.has_ended:
        raise InvalidRequest(f"task {task_id} is {record.state}; rate it when it has ended")
    if not record.answered_by:
        raise InvalidRequest(f"no model has answered task {task_id}, so there is nothing to rate")
    kind = record.request_type
    is_configured = kind in fleet.settings.config.request_types
    learned = learned_field(record.answered_by, kind) if is_configured else ""
    if not fleet.models.state.rate(task_id, float(rating), learned):
        raise TaskNotFound(f"the record of task {task_id} has expired meanwhile")
