"""What a task's money has to say: what it waits for, why it has its model, what is uncertain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleet.budgets.rules.refusals import Refusal
from fleet.cli.output import moment
from fleet.models.rules.downgrade_reasons import said

if TYPE_CHECKING:
    from fleet.tasks.store import TaskRecord


def waits_for(record: TaskRecord) -> Refusal | None:
    """The limit that a parked task waits for; None for any other, and for one that is to be tried
    again."""
    waits = record.state == "parked" and record.parked_for
    return Refusal.parse(record.parked_for) if waits else None


def parked_note(record: TaskRecord) -> str:
    """What a parked task waits for, and about until when; empty for any other."""
    if record.state == "parked" and not record.parked_for:
        error = record.retry_error or {}
        return (
            f"until {moment(record.parked_until)}, to be tried again (retry {record.retries}): "
            f"{error.get('type')}: {error.get('message')}"
        )
    refusal = waits_for(record)
    if refusal is None:
        return ""
    return f"until about {moment(record.parked_until)}, or a change of limits: {refusal.sentence}"


def model_note(record: TaskRecord) -> str:
    """The model that the money was held for, where it is not the best, and why."""
    return f"{record.chosen}, since {said(record.because)}" if record.because else ""


def uncertain_note(record: TaskRecord) -> str:
    """Of how many calls the cost is not known; empty where there is none."""
    calls = record.uncertain_calls
    if not calls:
        return ""
    what = "1 call" if calls == 1 else f"{calls} calls"
    return f"{what} of unknown usage: the most that may have been used is in the cost"


def money_json(record: TaskRecord) -> dict[str, Any]:
    """The same for programs. Dollars are nano-dollars, times seconds since 1970."""
    refusal = waits_for(record)
    waits = None
    if refusal is not None:
        waits = {**refusal._asdict(), "sentence": refusal.sentence, "until": record.parked_until}
    return {"waits_for": waits, "held_for": record.chosen or None, "because": said(record.because)}
