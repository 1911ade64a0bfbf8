"""The moves of a task, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fleet.cli.output import moment
from fleet.cli.tables import headed, state

if TYPE_CHECKING:
    from fleet.tasks.store import TaskRecord


def history_view(record: TaskRecord) -> Iterator[Text | Table]:
    """Who moved the task to which state, when and in which attempt; nothing where none is kept."""
    if not record.history:
        return
    yield Text()
    table = headed(("history", "to", "by", "why"), ("attempt",))
    for move in record.history:
        attempt = str(move.attempt) if move.attempt else "-"
        table.add_row(moment(move.at), state(move.state), move.by, move.why, attempt)
    yield table
