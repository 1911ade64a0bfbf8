"""`fleet dead`: the tasks that failed for good, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, counting, dollars, moment, print_json, say
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.tasks.set_aside_store import SetAsideMessage
    from fleet.tasks.store import TaskRecord

SHOWN = 2000
"""Characters of a malformed message that a terminal shows; `--json` has all that was kept."""

app = typer.Typer(
    no_args_is_help=True,
    help="Dead letters: tasks that failed for good. Example: `fleet dead list`",
)

TenantOption = Annotated[str, typer.Option(help="Only those of this tenant.")]
TypeOption = Annotated[str, typer.Option("--type", help="Only those of this request type.")]
ErrorOption = Annotated[
    str, typer.Option(help="Only those of this class of errors, such as TaskTimedOut.")
]
OlderOption = Annotated[
    float | None, typer.Option(min=0, help="Only those that failed more hours ago.")
]
NewerOption = Annotated[
    float | None, typer.Option(min=0, help="Only those that failed fewer hours ago.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All that the options leave.")]
TasksArgument = Annotated[
    list[str] | None, typer.Argument(help="Ids, or beginnings of them; none with --all.")
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
    """List the dead letters, newest first, with why each is one; malformed messages come last.

    Example: `fleet dead list --error TaskTimedOut --newer-than 24`
    """
    from rich.text import Text

    from fleet import Fleet

    fleet = Fleet.from_env()
    found = _find(fleet, tenant, request_type, error, older_than, newer_than)
    malformed = _malformed(fleet, tenant, request_type, error, older_than, newer_than)
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
    task_id: Annotated[str, typer.Argument(help="The id, or the beginning of one.")],
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter: its error, its history, its steps, what is saved and what it has cost.

    Example: `fleet dead show 0190c0de-...`
    """
    from fleet import Fleet
    from fleet.cli.work import show_task

    fleet = Fleet.from_env()
    malformed = {each.id: each for each in fleet.malformed()}
    (found,) = _ids([*(each.id for each in fleet.dead()), *malformed], [task_id])
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
    """Submit dead letters again, oldest first, each as a new task under its budget.

    One that is refused stays a dead letter, and the exit status is 1. A malformed message cannot be
    retried; --all leaves those out.

    Example: `fleet dead retry --all --error Unavailable --newer-than 2`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    found = _find(fleet, tenant, request_type, error, older_than, newer_than)
    letters = [each.id for each in found]
    known = letters if everything else [*letters, *(each.id for each in fleet.malformed())]
    ids = _meant(known, tasks or [], everything)
    _do(ids, lambda task_id: fleet.retry_dead(task_id).id, "retried", as_json)


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
    """Give dead letters and malformed messages up: they cannot be retried any more.

    Example: `fleet dead drop --all --tenant acme --older-than 72`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    wanted = (tenant, request_type, error, older_than, newer_than)
    found = [each.id for each in _find(fleet, *wanted)]
    found += [each.id for each in _malformed(fleet, *wanted)]
    ids = _meant(found, tasks or [], everything)
    _do(ids, _dropped(fleet), "dropped", as_json)


def _dropped(fleet: Fleet) -> Callable[[str], str]:
    def drop_it(task_id: str) -> str:
        fleet.drop_dead(task_id)
        return ""

    return drop_it


def _find(
    fleet: Fleet,
    tenant: str,
    request_type: str,
    error: str,
    older_than: float | None,
    newer_than: float | None,
) -> list[TaskRecord]:
    return fleet.dead(
        tenant=tenant,
        request_type=request_type,
        error=error,
        older_than=None if older_than is None else older_than * 3600,
        newer_than=None if newer_than is None else newer_than * 3600,
    )


def _malformed(
    fleet: Fleet,
    tenant: str,
    request_type: str,
    error: str,
    older_than: float | None,
    newer_than: float | None,
) -> list[SetAsideMessage]:
    """Malformed messages are of no tenant and no request type."""
    from fleet.tasks.dead_letters import MALFORMED

    if tenant or request_type or error not in ("", MALFORMED):
        return []
    return fleet.malformed(
        older_than=None if older_than is None else older_than * 3600,
        newer_than=None if newer_than is None else newer_than * 3600,
    )


def _meant(found: list[str], tasks: list[str], everything: bool) -> list[str]:
    """Ids of those that are meant, oldest first."""
    from fleet.errors import InvalidRequest

    if bool(tasks) == everything:
        raise InvalidRequest("name dead letters by their ids, or give --all, and not both")
    return list(reversed(found)) if everything else _ids(found, tasks)


def _ids(found: list[str], beginnings: list[str]) -> list[str]:
    """The id that each begins. Raises `TaskNotFound` and `InvalidRequest`; nothing is done then."""
    from fleet.errors import InvalidRequest, TaskNotFound

    ids: list[str] = []
    for beginning in beginnings:
        those = [each for each in found if each.startswith(beginning)]
        if not those:
            raise TaskNotFound(
                f"no dead letter begins with {beginning!r}; `fleet dead list` has those there are"
            )
        if len(those) > 1:
            raise InvalidRequest(
                f"{len(those)} dead letters begin with {beginning!r}; give more of the id"
            )
        ids += those
    return list(dict.fromkeys(ids))


def _do(ids: list[str], act: Callable[[str], str], what: str, as_json: bool) -> None:
    """Do it to each, with a bar; the others go on where one is refused."""
    from fleet.errors import FleetError

    done: list[dict[str, Any]] = []
    with counting(what, len(ids)) as tell:
        for number, task_id in enumerate(ids, start=1):
            try:
                done.append({"id": task_id, what: act(task_id) or True, "refused": None})
            except FleetError as error:
                done.append({"id": task_id, what: None, "refused": str(error)})
            tell(number)
    if as_json:
        print_json(done)
    else:
        _tell(done, what)
    raise typer.Exit(1 if any(each["refused"] for each in done) else 0)


def _tell(done: list[dict[str, Any]], what: str) -> None:
    for each in done:
        if each["refused"]:
            say(f"{each['id']} stays a dead letter: {each['refused']}", err=True)
        else:
            new = "" if each[what] is True else f" as {each[what]}"
            say(f"{each['id']} is {what}{new}")
    count = sum(not each["refused"] for each in done)
    if len(done) != 1:
        say(f"{count} of {len(done)} dead letters {what}")


def _letter_json(record: TaskRecord) -> dict[str, Any]:
    """A dead letter for programs. Times are seconds since 1970, costs nano-dollars."""
    names = ("id", "request_type", "agent_type", "tenant", "submitted", "ended", "error", "dead")
    counts = ("attempts", "crashes", "retries", "cost_nanodollars", "retry_of")
    return {name: getattr(record, name) for name in (*names, *counts)}


def _malformed_json(message: SetAsideMessage) -> dict[str, Any]:
    """A malformed message for programs, with the names of a dead letter's."""
    from fleet.errors import MalformedMessage

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
    Column("what", lambda each: each[0]),
    Column("", lambda each: each[1]),
)
