"""How a run ends: what is written of it, and how its error is kept and told again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from fleet import errors
from fleet.agent import Outcome, Result
from fleet.errors import FleetError, TaskCancelled, TaskFailed, TaskUnverified
from fleet.tasks.rules.retries import Death
from fleet.text import made_whole, with_whole_texts


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: a state, what to write, and what to raise for Celery.

    `reward` says how good the last model's answer was, 0 to 1; None where the end does not tell.
    `dead` says why a failed task is a dead letter.
    """

    state: str
    fields: Mapping[str, str]
    error: FleetError | None = None
    reward: float | None = None
    dead: Death = "permanent"


def ended(outcome: Outcome) -> End:
    """The end of a run whose agent gave an outcome."""
    fields = {"result": _result_json(outcome.result), "summary": made_whole(outcome.summary)}
    if outcome.model:
        fields["model"] = outcome.model
    reward = outcome.quality
    if outcome.state == "succeeded":
        return End("succeeded", fields, reward=1.0 if reward is None else reward)
    unverified = TaskUnverified(fields["summary"])
    fields["error"] = error_json(unverified)
    return End("unverified", fields, unverified, 0.0 if reward is None else reward)


def failed(error: FleetError) -> End:
    """The end of a run that failed. What the error says can be written from then on."""
    error.args = tuple(with_whole_texts(error.args))
    return End("failed", {"error": error_json(error), "summary": str(error)}, error)


def cancelled() -> End:
    """The end of a run that somebody wanted stopped."""
    return End("cancelled", {"summary": "cancelled"}, TaskCancelled("the task was cancelled"))


def _result_json(result: Result) -> str:
    try:
        return result.model_dump_json()
    except PydanticSerializationError:
        # It was paid for, and most of it can be kept where it is only a text that cannot.
        return to_json(with_whole_texts(result.model_dump()), inf_nan_mode="strings").decode()


def error_json(error: FleetError) -> str:
    """An error as it is stored with a task, with its `retry_after` in seconds where it has one."""
    stored = {"type": type(error).__name__, "message": str(error)}
    wait = getattr(error, "retry_after", None)
    return json.dumps(stored if wait is None else {**stored, "retry_after": wait})


def error_from(stored: Mapping[str, Any], result: BaseModel | None) -> FleetError:
    """The typed error that was stored with a task: its class, its message and its `retry_after`.
    What else it had, such as ids of other tasks, is not stored."""
    kind, message = getattr(errors, stored["type"], TaskFailed), stored["message"]
    if kind is TaskUnverified:
        return TaskUnverified(message, result)
    made = kind(message, stored["retry_after"]) if "retry_after" in stored else kind(message)
    return made if isinstance(made, FleetError) else TaskFailed(message)
