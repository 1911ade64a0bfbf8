"""A task for people and for programs: facts, cost, model calls and result.

Each agent decides how its results are shown and exported; see `fleet.agent.AgentSpec`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.agent import installed_agents
from fleet.budgets.rules.refusals import Refusal
from fleet.cli.output import dollars, highlighted, moment, seconds, state
from fleet.cli.rows import Column, figure, table
from fleet.errors import InvalidRequest
from fleet.models.rules.downgrade_reasons import describe_downgrade
from fleet.models.rules.usage import CONTRADICTORY, MISSING, UNPRICED

if TYPE_CHECKING:
    from fleet.tasks.checkpoints_store import Checkpoint
    from fleet.tasks.model_call import ModelCall
    from fleet.tasks.record import TaskRecord
    from fleet.tasks.rules import Move

WHY_DEAD = {
    "permanent": "the error is permanent",
    "retries": "no retries are left",
    "age": "the time for retries is over",
    "crashes": "its worker died in every attempt",
    "lost": "its message was lost in every attempt",
    "malformed": "no worker can read its message",
}


def record_view(record: TaskRecord, saved: Sequence[Checkpoint] = ()) -> Group:
    """A task in full: facts, model calls, checkpoints, history, and its error or result."""
    parts: list[RenderableType] = [_facts(record), *calls_view(record), *saved_view(saved)]
    parts += history_view(record)
    if record.error:
        parts.append(Text(f"{record.error['type']}: {record.error['message']}", style="red"))
    if record.result is not None:
        parts += [Text(), result_view(record.agent_type, record.result)]
    return Group(*parts)


def result_view(agent_type: str, result: dict[str, Any], max_rows: int | None = None) -> Group:
    """A result as its agent renders it, with at most `max_rows` lines of a long list.

    It is shown as JSON if the agent has no renderer or is not installed here.
    """
    spec = installed_agents().get(agent_type)
    shown = spec.rendered(result, max_rows) if spec else None
    return Group(shown or highlighted(json.dumps(result, indent=2), "json"))


def write_export(record: TaskRecord, form: str, target: Path | None) -> None:
    """Write a task's result in a format of its agent, to a file or to standard output.

    Raises `InvalidRequest` if there is no result or no such format.
    """
    spec = installed_agents().get(record.agent_type)
    if spec is None:
        raise InvalidRequest(f"no agent of type {record.agent_type} is installed here; install one")
    if record.result is None:
        raise InvalidRequest("the task has no result; wait until it ends, or read its error")
    content = spec.export(record.result, form)
    if target is None:
        if isinstance(content, bytes):
            raise InvalidRequest(f"{form} is a binary format; name a file with --output")
        sys.stdout.write(content)
        return
    try:
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise InvalidRequest(
            f"{target}: cannot be written ({error.strerror}); name another"
        ) from error


def calls_view(record: TaskRecord) -> list[RenderableType]:
    """The model calls, after an empty line. Empty if there are none."""
    if not record.model_calls:
        return []
    parts: list[RenderableType] = [Text(), table(record.model_calls, CALLS)]
    more = record.model_call_count - len(record.model_calls)
    return [*parts, Text(f"and {more} more calls")] if more else parts


def saved_view(saved: Sequence[Checkpoint]) -> Iterator[RenderableType]:
    """The checkpoints with size and time, after an empty line. Empty if there are none."""
    if saved:
        yield from (Text(), table(saved, SAVED))


def history_view(record: TaskRecord) -> Iterator[RenderableType]:
    """The changes of state, after an empty line. Empty if none is stored."""
    if record.history:
        yield from (Text(), table(record.history, HISTORY))


def saved_json(saved: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """The checkpoints without their values, which may be large."""
    return [{"name": each.name, "bytes": each.size, "at": each.at} for each in saved]


def _attempts(record: TaskRecord) -> str:
    crashes = f", {record.crashes} ended in a crash" if record.crashes else ""
    retries = f", {record.retries} retried" if record.retries else ""
    return f"{record.attempts}{crashes}{retries}"


def isolation_note(result: dict[str, Any] | None) -> str:
    """The isolation in which the task's code ran. Empty if the task runs no code."""
    if not result or "isolation" not in result:
        return ""
    isolation = result["isolation"]
    if isolation == "rlimits":
        return "rlimits: limits only; the code could read files and use the network"
    return str(isolation) or "none: no code ran"


def tools_note(record: TaskRecord) -> str:
    """The tools that the caller of a task has granted and approved. Empty by default."""
    tools, approved, by, untrusted = record.grants
    parts = [] if tools is None else [", ".join(tools) or "none"]
    if approved:
        parts.append(f"approved by {by}: {', '.join(approved)}")
    if untrusted:
        parts.append("the payload is untrusted")
    return "; ".join(parts)


def _facts(record: TaskRecord) -> Table:
    facts = Table.grid(padding=(0, 2))
    tokens = f"{record.input_tokens} in, {record.output_tokens} out"
    rows: tuple[tuple[str, str | Text], ...] = (
        ("task", record.id),
        ("state", state(record.state)),
        ("on hold", on_hold_note(record)),
        ("not before", moment(record.not_before) if record.state == "delayed" else ""),
        ("request", f"{record.request_type} for {record.tenant}, complexity {record.complexity:g}"),
        ("where", f"{record.agent or 'no agent yet'}, pool {record.pool or '-'}"),
        ("model", f"{record.model or '-'}, tokens {tokens}, {dollars(record.cost_nanodollars)}"),
        ("downgrade", model_note(record)),
        ("uncertain", uncertain_note(record)),
        ("tools", tools_note(record)),
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
        facts.add_row(Text(name, style="dim"), value)
    return facts


def dead_note(record: TaskRecord) -> str:
    """Why a task is or was a dead letter. Empty for other tasks."""
    return WHY_DEAD.get(record.dead, record.dead)


def waits_for(record: TaskRecord) -> Refusal | None:
    """The limit that a task on hold waits for. None for other tasks, and before a retry."""
    waits = record.state == "parked" and record.parked_for
    return Refusal.parse(record.parked_for) if waits else None


def on_hold_note(record: TaskRecord) -> str:
    """What a task on hold waits for, and until when. Empty for other tasks."""
    if record.state == "parked" and not record.parked_for:
        error = record.retry_error or {}
        return (
            f"until {moment(record.parked_until)}, then retry {record.retries} follows: "
            f"{error.get('type')}: {error.get('message')}"
        )
    refusal = waits_for(record)
    if refusal is None:
        return ""
    return f"until about {moment(record.parked_until)}, or a change of limits: {refusal.sentence}"


def model_note(record: TaskRecord) -> str:
    """The cheaper model that money was reserved for, and why. Empty if it is the best one."""
    return f"{record.chosen}, since {describe_downgrade(record.because)}" if record.because else ""


def uncertain_note(record: TaskRecord) -> str:
    """How many calls have an unknown cost. Empty if there are none."""
    calls = record.uncertain_calls
    if not calls:
        return ""
    what = "1 call" if calls == 1 else f"{calls} calls"
    return f"{what} with unknown usage; the cost contains the upper bound"


def money_json(record: TaskRecord) -> dict[str, Any]:
    """What a task waits for, and the model its money is reserved for, for programs.

    Dollars are nano-dollars, times are in seconds since 1970.
    """
    refusal = waits_for(record)
    waits = None
    if refusal is not None:
        waits = {**refusal._asdict(), "sentence": refusal.sentence, "until": record.parked_until}
    return {
        "waits_for": waits,
        "held_for": record.chosen or None,
        "because": describe_downgrade(record.because),
    }


def record_json(record: TaskRecord) -> dict[str, Any]:
    """A task for programs. `fleet explain --json` has its decision."""
    shown = asdict(record)
    for name in ("ranking", "model_decision", "loads", "routed", "pinned", "fence"):
        del shown[name]
    for name in ("chosen", "because", "parked_for"):
        del shown[name]
    # Programs have known the calls as `steps`, and their count as `model_calls`.
    shown |= {"steps": shown["model_calls"], "model_calls": shown.pop("model_call_count")}
    times = {"wait_seconds": record.wait_seconds, "run_seconds": record.run_seconds}
    history = [move._asdict() for move in record.history]
    priorities = record.priorities._asdict() if record.priorities else None
    isolation = (record.result or {}).get("isolation")
    facts = {"isolation": isolation, "history": history, "priorities": priorities}
    return {**shown, **money_json(record), **times, **facts}


def _task_state(record: TaskRecord) -> Text:
    """The state, with the time when a delayed task or a task on hold continues."""
    if record.state == "delayed":
        return state(record.state).append(f" to {moment(record.not_before)}")
    if record.state != "parked":
        return state(record.state)
    return state(record.state).append(f" to {moment(record.parked_until)}")


def _cost(call: ModelCall) -> str:
    """The cost of a model call, or its upper bound if the usage is unknown."""
    if call.usage == UNPRICED:
        return "no price"
    cost = dollars(call.cost_nanodollars)
    return f"<= {cost}" if call.usage in (MISSING, CONTRADICTORY) else cost


TASKS: tuple[Column[TaskRecord], ...] = (
    Column("id", lambda task: task.id, whole=True),
    Column("request type", lambda task: task.request_type),
    Column("state", _task_state),
    Column("pool", lambda task: task.pool or "-"),
    Column("model", lambda task: task.model or "-"),
    Column("tenant", lambda task: task.tenant),
    figure("tokens in", lambda task: str(task.input_tokens)),
    figure("out", lambda task: str(task.output_tokens)),
    figure("cost", lambda task: dollars(task.cost_nanodollars)),
    figure("wait", lambda task: seconds(task.wait_seconds)),
    figure("run", lambda task: seconds(task.run_seconds)),
)
CALLS: tuple[Column[ModelCall], ...] = (
    Column("model", lambda call: call.model),
    Column("provider", lambda call: call.provider),
    Column("why", lambda call: call.why),
    Column(
        "ended",
        lambda call: Text(call.ended, style="green" if call.answered else "yellow"),
    ),
    figure("in", lambda call: str(call.input_tokens)),
    figure("cached", lambda call: str(call.cached_input_tokens)),
    figure("out", lambda call: str(call.output_tokens)),
    figure("cost", _cost),
    figure("took", lambda call: seconds(call.seconds)),
    figure("at", lambda call: moment(call.at)),
)
SAVED: tuple[Column[Checkpoint], ...] = (
    Column("checkpoint", lambda each: each.name),
    figure("bytes", lambda each: f"{each.size:,}"),
    figure("at", lambda each: moment(each.at)),
)
HISTORY: tuple[Column[Move], ...] = (
    Column("history", lambda move: moment(move.at)),
    Column("to", lambda move: state(move.state)),
    Column("by", lambda move: move.by),
    Column("why", lambda move: move.why),
    figure("attempt", lambda move: str(move.attempt) if move.attempt else "-"),
)
