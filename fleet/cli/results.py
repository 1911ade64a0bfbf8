"""A task and its result for people. How a result is shown and exported is the agent's own, see
`fleet.agent.AgentSpec`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.agent import installed_agents
from fleet.cli.dead_tables import dead_note
from fleet.cli.history import history_view
from fleet.cli.money_notes import model_note, parked_note, uncertain_note
from fleet.cli.output import dollars, highlighted, moment, seconds
from fleet.cli.saved import saved_view
from fleet.cli.steps import steps_view
from fleet.cli.tables import state
from fleet.errors import InvalidRequest

if TYPE_CHECKING:
    from fleet.tasks.checkpoints_store import Saved
    from fleet.tasks.store import TaskRecord


def record_view(record: TaskRecord, saved: Sequence[Saved] = ()) -> Group:
    """All of a task: its facts, its steps, what is saved of them, its error if it has one, its
    result if it has one."""
    parts: list[RenderableType] = [_facts(record), *steps_view(record), *saved_view(saved)]
    parts += history_view(record)
    if record.error:
        parts.append(Text(f"{record.error['type']}: {record.error['message']}", style="red"))
    if record.result is not None:
        parts += [Text(), result_view(record.agent_type, record.result)]
    return Group(*parts)


def result_view(agent_type: str, result: dict[str, Any], max_rows: int | None = None) -> Group:
    """A result as its agent renders it, with at most `max_rows` lines of a long list; as JSON where
    the agent is not installed here, or renders none."""
    spec = installed_agents().get(agent_type)
    shown = spec.rendered(result, max_rows) if spec else None
    return Group(shown or highlighted(json.dumps(result, indent=2), "json"))


def write_export(record: TaskRecord, form: str, target: Path | None) -> None:
    """Write a task's result in a format of its agent, to the standard output without a target.
    Raises `InvalidRequest` where there is no result or no such format."""
    spec = installed_agents().get(record.agent_type)
    if spec is None:
        raise InvalidRequest(f"no agent of type {record.agent_type} is installed here; install one")
    if record.result is None:
        raise InvalidRequest("the task has no result; wait for it to end, or look at its error")
    content = spec.export(record.result, form)
    if target is None:
        if isinstance(content, bytes):
            raise InvalidRequest(f"{form} is no text; name a file with --output")
        sys.stdout.write(content)
        return
    try:
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InvalidRequest(
            f"{target}: cannot be written ({error.strerror}); name another"
        ) from error


def _attempts(record: TaskRecord) -> str:
    crashes = f", {record.crashes} ended in a crash" if record.crashes else ""
    retries = f", {record.retries} put back to be tried again" if record.retries else ""
    return f"{record.attempts}{crashes}{retries}"


def isolation_note(result: dict[str, Any] | None) -> str:
    """In which isolation the task's code ran; empty where it is no task that runs code."""
    if not result or "isolation" not in result:
        return ""
    isolation = result["isolation"]
    if isolation == "rlimits":
        return "rlimits: limits only, the code could read files and use the network"
    return str(isolation) or "none: no code was run"


def _facts(record: TaskRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    tokens = f"{record.input_tokens} in, {record.output_tokens} out"
    rows: tuple[tuple[str, str | Text], ...] = (
        ("task", record.id),
        ("state", state(record.state)),
        ("waits", parked_note(record)),
        ("not before", moment(record.not_before) if record.state == "delayed" else ""),
        ("request", f"{record.request_type} for {record.tenant}, complexity {record.complexity:g}"),
        ("where", f"{record.agent or 'no agent yet'}, pool {record.pool or '-'}"),
        ("model", f"{record.model or '-'}, tokens {tokens}, {dollars(record.cost_nanodollars)}"),
        ("downgrade", model_note(record)),
        ("uncertain", uncertain_note(record)),
        ("submitted", moment(record.submitted)),
        ("took", f"wait {seconds(record.wait_seconds)}, run {seconds(record.run_seconds)}"),
        ("attempts", _attempts(record)),
        ("dead letter", dead_note(record)),
        ("retry of", record.retry_of),
        ("retried as", record.retried_as),
        ("progress", record.progress or "-"),
        ("summary", record.summary or "-"),
        ("isolation", isolation_note(record.result)),
        ("rating", "-" if record.rating is None else f"{record.rating:g}"),
    )
    for name, value in rows:
        if not value:
            continue
        table.add_row(Text(name, style="dim"), value)
    return table
