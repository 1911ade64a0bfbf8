"""`fleet dead`: list, retry or drop dead letters, the tasks that failed for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleet.cli.output import (
    JsonOption,
    TenantOption,
    console,
    counting,
    dollars,
    moment,
    print_json,
    say,
)
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.tasks.set_aside_store import SetAsideMessage
    from fleet.tasks.store import TaskRecord

SHOWN = 2000
"""Characters of a malformed message shown on a terminal. `--json` has all that was kept."""

app = typer.Typer(
    no_args_is_help=True,
    help="List, retry or drop dead letters: tasks that failed for good."
    "\n\nExample: `fleet dead list`",
)

TypeOption = Annotated[str, typer.Option("--type", help="Only tasks of this request type.")]
ErrorOption = Annotated[
    str, typer.Option(help="Only tasks with this error class, such as TaskTimedOut.")
]
OlderOption = Annotated[
    float | None, typer.Option(min=0, help="Only tasks that failed more than this many hours ago.")
]
NewerOption = Annotated[
    float | None, typer.Option(min=0, help="Only tasks that failed less than this many hours ago.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that match the other options.")]
TasksArgument = Annotated[
    list[str] | None, typer.Argument(help="Task ids, or their first characters. None with --all.")
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="dead")


@app.command("list")
def list_(
    tenant: TenantOption = "",
    request_type: TypeOption = "",
    error: ErrorOption = "",
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters and the reason for each, newest first. Malformed messages come last.

    Example: `fleet dead list --error TaskTimedOut --newer-than 24`
    """
    from rich.text import Text

    from fleet import Fleet

    fleet = Fleet.from_env()
    matching = _Filter(tenant, request_type, error, older_than, newer_than)
    found, malformed = matching.letters(fleet), matching.malformed(fleet)
    if as_json:
        letters = [_letter_json(each) for each in found]
        print_json([*letters, *(_malformed_json(each) for each in malformed)])
        return
    console().print(table(found, LETTERS))
    if malformed:
        console().print(Text(f"\n{len(malformed)} malformed messages, set aside by workers:"))
        console().print(table(malformed, MALFORMED_MESSAGES))


@app.command()
def show(
    task_id: Annotated[str, typer.Argument(help="The task id, or its first characters.")],
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter: its error, history, model calls, saved checkpoints and cost.

    Example: `fleet dead show 0190c0de-...`
    """
    from fleet import Fleet
    from fleet.cli.work import show_task

    fleet = Fleet.from_env()
    malformed = {each.id: each for each in fleet.malformed()}
    (found,) = _full_ids([*(each.id for each in fleet.dead()), *malformed], [task_id])
    if found not in malformed:
        show_task(fleet.task(found), as_json)
    elif as_json:
        print_json({**_malformed_json(malformed[found]), "message": malformed[found].message})
    else:
        console().print(table(_malformed_facts(malformed[found]), FACTS))


@app.command()
def retry(
    tasks: TasksArgument = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    request_type: TypeOption = "",
    error: ErrorOption = "",
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit dead letters again, oldest first. Each becomes a new task and counts on its budget.

    A refused task stays a dead letter; the exit status is then 1. Malformed messages cannot be
    retried, and --all skips them.

    Example: `fleet dead retry --all --error Unavailable --newer-than 2`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    matching = _Filter(tenant, request_type, error, older_than, newer_than)
    letters = [each.id for each in matching.letters(fleet)]
    known = letters if everything else [*letters, *(each.id for each in fleet.malformed())]
    ids = _selected(known, tasks or [], everything)
    _for_each(ids, lambda task_id: fleet.retry_dead(task_id).id, "retried", as_json)


@app.command()
def drop(
    tasks: TasksArgument = None,
    everything: AllOption = False,
    tenant: TenantOption = "",
    request_type: TypeOption = "",
    error: ErrorOption = "",
    older_than: OlderOption = None,
    newer_than: NewerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop dead letters and malformed messages. They cannot be retried afterwards.

    Example: `fleet dead drop --all --tenant acme --older-than 72`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    matching = _Filter(tenant, request_type, error, older_than, newer_than)
    found = [each.id for each in matching.letters(fleet)]
    found += [each.id for each in matching.malformed(fleet)]
    _for_each(_selected(found, tasks or [], everything), fleet.drop_dead, "dropped", as_json)


class _Filter(NamedTuple):
    """The options that select dead letters. Ages are in hours."""

    tenant: str
    request_type: str
    error: str
    older_than: float | None
    newer_than: float | None

    def letters(self, fleet: Fleet) -> list[TaskRecord]:
        """The matching dead letters, newest first."""
        return fleet.dead(
            tenant=self.tenant,
            request_type=self.request_type,
            error=self.error,
            older_than=_seconds(self.older_than),
            newer_than=_seconds(self.newer_than),
        )

    def malformed(self, fleet: Fleet) -> list[SetAsideMessage]:
        """The matching malformed messages. They have no tenant and no request type."""
        from fleet.tasks.dead_letters import MALFORMED

        if self.tenant or self.request_type or self.error not in ("", MALFORMED):
            return []
        older, newer = _seconds(self.older_than), _seconds(self.newer_than)
        return fleet.malformed(older_than=older, newer_than=newer)


def _seconds(hours: float | None) -> float | None:
    return None if hours is None else hours * 3600


def _selected(found: list[str], tasks: list[str], everything: bool) -> list[str]:
    """The ids to act on, oldest first."""
    from fleet.errors import InvalidRequest

    if bool(tasks) == everything:
        raise InvalidRequest("give the ids of dead letters or --all, not both")
    return list(reversed(found)) if everything else _full_ids(found, tasks)


def _full_ids(found: list[str], beginnings: list[str]) -> list[str]:
    """The id that begins with each of the given texts.

    Raises `TaskNotFound` if there is none, `InvalidRequest` if there are several.
    """
    from fleet.errors import InvalidRequest, TaskNotFound

    ids: list[str] = []
    for beginning in beginnings:
        matches = [each for each in found if each.startswith(beginning)]
        if not matches:
            raise TaskNotFound(
                f"no dead letter begins with {beginning!r}; `fleet dead list` lists all of them"
            )
        if len(matches) > 1:
            raise InvalidRequest(
                f"{len(matches)} dead letters begin with {beginning!r}; give more of the id"
            )
        ids += matches
    return list(dict.fromkeys(ids))


def _for_each(
    ids: list[str], act: Callable[[str], str | None], action: str, as_json: bool
) -> None:
    """Act on each id, with a progress bar. A refusal does not stop the others.

    `act` returns the id of a new task, if there is one. `action` is `retried` or `dropped`.
    """
    from fleet.errors import FleetError

    done: list[dict[str, Any]] = []
    with counting(action, len(ids)) as show_count:
        for number, task_id in enumerate(ids, start=1):
            try:
                done.append({"id": task_id, action: act(task_id) or True, "refused": None})
            except FleetError as error:
                done.append({"id": task_id, action: None, "refused": str(error)})
            show_count(number)
    if as_json:
        print_json(done)
    else:
        _report(done, action)
    raise typer.Exit(1 if any(each["refused"] for each in done) else 0)


def _report(done: list[dict[str, Any]], action: str) -> None:
    for each in done:
        if each["refused"]:
            say(f"{each['id']} stays a dead letter: {each['refused']}", err=True)
        else:
            new = "" if each[action] is True else f" as {each[action]}"
            say(f"{each['id']} is {action}{new}")
    count = sum(not each["refused"] for each in done)
    if len(done) != 1:
        say(f"{count} of {len(done)} dead letters {action}")


def _letter_json(record: TaskRecord) -> dict[str, Any]:
    """A dead letter for programs. Times are in seconds since 1970, costs in nano-dollars."""
    names = ("id", "request_type", "agent_type", "tenant", "submitted", "ended", "error", "dead")
    counts = ("attempts", "crashes", "retries", "cost_nanodollars", "retry_of")
    return {name: getattr(record, name) for name in (*names, *counts)}


def _malformed_json(message: SetAsideMessage) -> dict[str, Any]:
    """A malformed message for programs, with the keys of a dead letter."""
    from fleet.errors import MalformedMessage

    error = {"type": MalformedMessage.__name__, "message": message.reason}
    names = ("request_type", "agent_type", "tenant", "submitted")
    return {
        "id": message.id,
        **dict.fromkeys(names),
        "ended": message.at,
        "error": error,
        "dead": "malformed",
        "queue": message.queue,
        "bytes": message.size,
    }


def _malformed_facts(message: SetAsideMessage) -> list[tuple[str, str]]:
    return [
        ("id", message.id),
        ("queue", message.queue),
        ("set aside", moment(message.at)),
        ("reason", message.reason),
        ("bytes", f"{message.size:,}"),
        ("begins with", message.message[:SHOWN]),
    ]


def _why(record: TaskRecord) -> str:
    from fleet.cli.task_view import dead_note

    return dead_note(record)


LETTERS: tuple[Column[TaskRecord], ...] = (
    Column("id", lambda task: task.id, whole=True),
    Column("request type", lambda task: task.request_type),
    Column("tenant", lambda task: task.tenant),
    Column("failed", lambda task: moment(task.ended)),
    Column("error", lambda task: (task.error or {}).get("type", "-")),
    Column("why", _why),
    figure("attempts", lambda task: str(task.attempts)),
    figure("crashes", lambda task: str(task.crashes)),
    figure("retries", lambda task: str(task.retries)),
    figure("cost", lambda task: dollars(task.cost_nanodollars)),
)
MALFORMED_MESSAGES: tuple[Column[SetAsideMessage], ...] = (
    Column("id", lambda each: each.id, whole=True),
    Column("queue", lambda each: each.queue),
    Column("set aside", lambda each: moment(each.at)),
    Column("reason", lambda each: each.reason),
    figure("bytes", lambda each: f"{each.size:,}"),
)
FACTS: tuple[Column[tuple[str, str]], ...] = (
    Column("field", lambda each: each[0]),
    Column("value", lambda each: each[1]),
)
