"""The outcome of a run: what is written of it, and how its error is stored and read back."""

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
class RunOutcome:
    """How a run ended: a state, the fields to write, and the error to raise for Celery.

    `reward` says how good the last model's answer was, 0 to 1; None where that is not known.
    `dead` says why a failed task is a dead letter.
    """

    state: str
    fields: Mapping[str, str]
    error: FleetError | None = None
    reward: float | None = None
    dead: Death = "permanent"


def completed(outcome: Outcome) -> RunOutcome:
    """Of a run whose agent gave an outcome."""
    fields = {"result": _result_json(outcome.result), "summary": made_whole(outcome.summary)}
    if outcome.model:
        fields["model"] = outcome.model
    reward = outcome.quality
    if outcome.state == "succeeded":
        return RunOutcome("succeeded", fields, reward=1.0 if reward is None else reward)
    unverified = TaskUnverified(fields["summary"])
    fields["error"] = error_json(unverified)
    return RunOutcome("unverified", fields, unverified, 0.0 if reward is None else reward)


def failed(error: FleetError) -> RunOutcome:
    """Of a run that failed. From then on the text of the error can be written."""
    error.args = tuple(with_whole_texts(error.args))
    return RunOutcome("failed", {"error": error_json(error), "summary": str(error)}, error)


def cancelled() -> RunOutcome:
    """Of a run that somebody cancelled."""
    return RunOutcome(
        "cancelled", {"summary": "cancelled"}, TaskCancelled("the task was cancelled")
    )


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
