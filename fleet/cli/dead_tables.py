"""Dead letters as a table and as JSON, and why a task is one in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fleet.cli.output import dollars, moment
from fleet.cli.tables import headed

if TYPE_CHECKING:
    from fleet.state.tasks import TaskRecord

WHY = {
    "permanent": "an error that no time heals",
    "retries": "its retries are used up",
    "age": "the time for its retries is used up",
    "crashes": "its worker died each time",
    "lost": "its message was lost each time",
}


def dead_note(record: TaskRecord) -> str:
    """Why a task is, or was, a dead letter; empty for any other."""
    return WHY.get(record.dead, record.dead)


def dead_table(records: Iterable[TaskRecord]) -> Table:
    """One line a dead letter, with its id in full, for somebody to copy."""
    names = ("id", "request type", "tenant", "failed", "error", "why")
    table = headed(names, ("attempts", "crashes", "retries", "cost"))
    for record in records:
        table.add_row(
            record.id,
            record.request_type,
            record.tenant,
            moment(record.ended),
            (record.error or {}).get("type", "-"),
            dead_note(record),
            str(record.attempts),
            str(record.crashes),
            str(record.retries),
            dollars(record.cost_nanodollars),
        )
    return table


def letter_json(record: TaskRecord) -> dict[str, Any]:
    """A dead letter for programs. Times are seconds since 1970, costs nano-dollars."""
    names = ("id", "request_type", "agent_type", "tenant", "submitted", "ended", "error", "dead")
    counts = ("attempts", "crashes", "retries", "cost_nanodollars", "retry_of")
    return {name: getattr(record, name) for name in (*names, *counts)}
