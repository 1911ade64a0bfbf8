"""`fleet submit`, `tasks`, `task`, `cancel`, `rate` and `explain`: work, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import JsonOption, console, print_json, say
from fleet.cli.rows import CsvOption, print_rows

if TYPE_CHECKING:
    from fleet import Task

TaskArgument = Annotated[
    str, typer.Argument(help="The task's id, or the beginning of a recent one's.")
]
NEWEST = 500
"""Among so many tasks the beginning of an id is looked up."""


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (submit, tasks, task, explain, cancel, rate):
        app.command()(command)


def submit(
    request_type: Annotated[str, typer.Argument(help="Such as code_generation.")],
    payload: Annotated[
        str | None, typer.Argument(help="JSON, @FILE with JSON, or - for standard input.")
    ] = None,
    payload_option: Annotated[
        str | None, typer.Option("--payload", help="The same, as an option.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE of the payload; JSON where it is JSON, else text."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="On whose behalf.")] = "default",
    complexity: Annotated[float | None, typer.Option(help="How hard it is, 0 to 1.")] = None,
    quality: Annotated[
        float | None, typer.Option(help="What a model's quality counts, 0 to 1.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="What its speed counts; both together at most 1.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="This pool and no other.")] = None,
    model: Annotated[str | None, typer.Option(help="This model and no other.")] = None,
    max_cost_usd: Annotated[
        float | None, typer.Option(help="No model that would cost more.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="A second submission with this key is the first one.")
    ] = None,
    delay: Annotated[
        float | None, typer.Option(help="Queue it so many seconds from now, not earlier.")
    ] = None,
    priority: Annotated[
        int, typer.Option(help="0, the most urgent, to 9. Only 0 passes in an emergency.")
    ] = 5,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the result and show it.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Wait for so many seconds at most; implies --wait."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a task. With --wait exit status 1 says that it failed or is unverified.

    One that fits no limit now and is to wait is parked: the error stream says for what.

    Example: `fleet submit code_generation --set instruction="Write add(a, b)." --wait`
    """
    from fleet import Fleet
    from fleet.cli.payload import read_payload
    from fleet.cli.task_view import money_json, parked_note

    task = Fleet.from_env().submit(
        request_type,
        read_payload(payload, payload_option, sets or []),
        tenant=tenant,
        complexity=complexity,
        quality=quality,
        speed=speed,
        pool=pool,
        model=model,
        max_cost_usd=max_cost_usd,
        idempotency_key=idempotency_key,
        delay=delay,
        priority=priority,
    )
    record = task.record()
    if note := parked_note(record):
        say(f"parked {note}", err=True)
    if wait or timeout is not None:
        record = task.wait(timeout)
        show_task(task, as_json)
        raise typer.Exit(0 if record.state == "succeeded" else 1)
    if as_json:
        told = {"id": task.id, "state": record.state, "pool": task.decision.pool}
        print_json({**told, "model": record.model, **money_json(record)})
    else:
        say(task.id)


def tasks(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only tasks of this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Show so many tasks.")] = 50,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the newest tasks with their state, tokens, cost and times.

    Example: `fleet tasks --state failed --limit 500`
    """
    from fleet import Fleet
    from fleet.cli.task_view import TASKS, record_json
    from fleet.errors import InvalidRequest
    from fleet.tasks.store import STATES

    if state is not None and state not in STATES:
        raise InvalidRequest(f"no state is called {state!r}; use one of: {', '.join(STATES)}")
    found = Fleet.from_env().tasks(limit, state, tenant)
    # Without results, which may be large: `fleet task ID --json` has them.
    print_rows(found, TASKS, lambda task: {**record_json(task), "result": None}, as_json, as_csv)


def task(
    task_id: TaskArgument,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write the result in a format of its agent, such as sarif for a scan's findings "
            "(SARIF 2.1.0), png for the plot of a performance test.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file for --format; else the standard output."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a task: its state, what it took, what its runs have saved, and its result or error.

    Example: `fleet task 0190c0de-... --format sarif -o findings.sarif`
    """
    from fleet.cli.task_view import write_export
    from fleet.errors import InvalidRequest

    if output and not form:
        raise InvalidRequest("--output is for --format; give both")
    found = _task(task_id)
    if form:
        write_export(found.record(), form, output)
    if output or not form:
        show_task(found, as_json)


def explain(task_id: TaskArgument, as_json: JsonOption = False) -> None:
    """Show why a task got its pool and its model, with every candidate's numbers, and which models
    it went to; what a parked one waits for; where each attempt ran, and why it ended.

    Example: `fleet explain 0190c0de-...`
    """
    from fleet.cli.decision import decision_view, model_json, money_view
    from fleet.cli.task_view import calls_view, history_view, record_json

    found = _task(task_id)
    record = found.record()
    route = found.decision if record.ranking else None
    model = found.model_decision
    if as_json:
        shown = record_json(record)
        told = ("state", "waits_for", "held_for", "because", "uncertain_calls", "history")
        calls = {name: shown[name] for name in ("steps", "model_calls", *told)}
        routed = route.to_json() if route else None
        print_json({"id": found.id, "route": routed, "model": model_json(model), **calls})
    else:
        parts = [*money_view(record), *calls_view(record), *history_view(record)]
        console().print(decision_view(route, model), *parts)


def cancel(task_id: TaskArgument) -> None:
    """Cancel a task, waiting or running. One that has ended stays as it is.

    Example: `fleet cancel 0190c0de-...`
    """
    from fleet.tasks.store import ENDED

    before = _task(task_id).cancel()
    if before in ENDED:
        say(f"task {task_id} had ended already: {before}")
    else:
        say(f"task {task_id} was {before} and is cancelled")


def rate(
    task_id: TaskArgument,
    rating: Annotated[float, typer.Argument(help="From 0 (of no use) to 1 (very good).")],
    as_json: JsonOption = False,
) -> None:
    """Say how good a task's result was: the fleet learns it of the model that answered.

    Rating again replaces the rating.

    Example: `fleet rate 0190c0de-... 0.8`
    """
    found = _task(task_id)
    found.rate(rating)
    if as_json:
        print_json({"id": found.id, "rating": rating, "model": found.record().answered_by})
    else:
        say(f"task {found.id} is rated {rating:g}")


def _task(task_id: str) -> Task:
    """The task of an id, or of the beginning of one as the tables show it."""
    from fleet import Fleet
    from fleet.errors import InvalidRequest, TaskNotFound

    fleet = Fleet.from_env()
    try:
        return fleet.task(task_id)
    except TaskNotFound:
        found = [r.id for r in fleet.tasks(limit=NEWEST) if r.id.startswith(task_id)]
        if len(found) == 1:
            return fleet.task(found[0])
        if found:
            raise InvalidRequest(
                f"{len(found)} of the newest tasks begin with {task_id!r}; give more of the id"
            ) from None
        raise


def show_task(task: Task, as_json: bool) -> None:
    """Print all of a task."""
    from fleet.cli.task_view import record_json, record_view, saved_json

    record, saved = task.record(), task.saved()
    if as_json:
        print_json({**record_json(record), "saved": saved_json(saved)})
    else:
        console().print(record_view(record, saved))
