"""The outcome of a run, and the stored form of its error."""

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
from fleet.tasks.rules import Death
from fleet.text import made_whole, with_whole_texts


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a run: its state, the fields to write, and the error to raise for Celery.

    `reward` is the quality of the last model's answer, 0 to 1, None if unknown. `dead` is the
    reason why a failed task is a dead letter.
    """

    state: str
    fields: Mapping[str, str]
    error: FleetError | None = None
    reward: float | None = None
    dead: Death = "permanent"


def completed(outcome: Outcome) -> RunOutcome:
    """The outcome of a run whose agent completed."""
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
    """The outcome of a run that failed. Makes the texts in `error.args` valid Unicode."""
    error.args = tuple(with_whole_texts(error.args))
    return RunOutcome("failed", {"error": error_json(error), "summary": str(error)}, error)


def cancelled() -> RunOutcome:
    """The outcome of a cancelled run."""
    return RunOutcome(
        "cancelled", {"summary": "cancelled"}, TaskCancelled("the task was cancelled")
    )


def _result_json(result: Result) -> str:
    try:
        return result.model_dump_json()
    except PydanticSerializationError:
        # The result was paid for: replace what JSON cannot hold, and keep the rest.
        return to_json(with_whole_texts(result.model_dump()), inf_nan_mode="strings").decode()


def error_json(error: FleetError) -> str:
    """The stored form of an error, with its `retry_after` in seconds if it has one."""
    stored = {"type": type(error).__name__, "message": str(error)}
    wait = getattr(error, "retry_after", None)
    return json.dumps(stored if wait is None else {**stored, "retry_after": wait})


def error_from(stored: Mapping[str, Any], result: BaseModel | None) -> FleetError:
    """The typed error from its stored form: class, message and `retry_after`. Other attributes,
    such as ids of other tasks, are not stored."""
    kind, message = getattr(errors, stored["type"], TaskFailed), stored["message"]
    if kind is TaskUnverified:
        return TaskUnverified(message, result)
    made = kind(message, stored["retry_after"]) if "retry_after" in stored else kind(message)
    return made if isinstance(made, FleetError) else TaskFailed(message)
