"""Dead letters as a table and as JSON, and why a task is one in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fleet.cli.output import dollars, moment
from fleet.cli.tables import headed
from fleet.errors import MalformedMessage

if TYPE_CHECKING:
    from fleet.tasks.set_aside_store import SetAsideMessage
    from fleet.tasks.store import TaskRecord

SHOWN = 2000
"""Characters of a malformed message that a terminal shows; `--json` has all that was kept."""

WHY = {
    "permanent": "an error that no time heals",
    "retries": "its retries are used up",
    "age": "the time for its retries is used up",
    "crashes": "its worker died each time",
    "lost": "its message was lost each time",
    "malformed": "a message that no worker can take",
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


def malformed_table(messages: Iterable[SetAsideMessage]) -> Table:
    """One line a malformed message, with its id in full."""
    table = headed(("id", "queue", "set aside", "reason"), ("bytes",))
    for each in messages:
        table.add_row(each.id, each.queue, moment(each.at), each.reason, f"{each.size:,}")
    return table


def malformed_view(message: SetAsideMessage) -> Table:
    """One malformed message, with its beginning."""
    table = headed(("what", ""), ())
    rows = {
        "id": message.id,
        "queue": message.queue,
        "set aside": moment(message.at),
        "reason": message.reason,
        "bytes": f"{message.size:,}",
        "begins with": message.message[:SHOWN],
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def malformed_json(message: SetAsideMessage) -> dict[str, Any]:
    """A malformed message for programs, with the names of a dead letter's."""
    error = {"type": MalformedMessage.__name__, "message": message.reason}
    names = ("request_type", "agent_type", "tenant", "submitted")
    told = {"ended": message.at, "error": error, "dead": "malformed"}
    return {
        "id": message.id,
        **dict.fromkeys(names),
        **told,
        "queue": message.queue,
        "bytes": message.size,
    }
