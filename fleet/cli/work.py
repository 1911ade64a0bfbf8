"""`fleet submit`, `tasks`, `task`, `explain`, `cancel` and `rate`: tasks and their results."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, LimitOption, console, print_json, say
from fleet.cli.rows import CsvOption, print_rows
from fleet.errors import InvalidRequest, TaskNotFound

if TYPE_CHECKING:
    from fleet import Task

NEWEST = 500
"""An abbreviated id is searched among this many of the newest tasks."""

PayloadOption = Annotated[
    str | None,
    typer.Option("--payload", help="The payload: JSON, @FILE with JSON, or - for standard input."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a key of the payload. VALUE is JSON or else text."
    ),
]
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant of the task.")]
ComplexityOption = Annotated[
    float | None,
    typer.Option("--complexity", help="How difficult the task is, 0 to 1. Default: estimated."),
]
QualityOption = Annotated[
    float | None,
    typer.Option("--quality", help="The weight of quality in the choice of the model, 0 to 1."),
]
SpeedOption = Annotated[
    float | None,
    typer.Option("--speed", help="The weight of speed. Both weights together are at most 1."),
]
PoolOption = Annotated[str | None, typer.Option("--pool", help="Use only this pool.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Use only this model.")]
MaxCostOption = Annotated[
    float | None,
    typer.Option("--max-cost-usd", help="Use no model whose estimated cost is higher."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", help="Submitting again with the same key returns the first task."
    ),
]
DelayOption = Annotated[
    float | None, typer.Option("--delay", help="Queue the task this many seconds from now.")
]
PriorityOption = Annotated[
    int, typer.Option("--priority", help="0 (most urgent) to 9. An emergency accepts only 0.")
]
ToolOption = Annotated[
    list[str] | None,
    typer.Option("--tool", help="A tool that the agent may use. Default: all but outward tools."),
]
ApproveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--approve", help="An outward tool to use even after the agent has read text of strangers."
    ),
]
UntrustedOption = Annotated[
    bool, typer.Option("--untrusted", help="The payload is text of strangers.")
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the result and show it.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", min=0, help="Wait at most this many seconds. Implies --wait."),
]
TaskArgument = Annotated[
    str, typer.Argument(help="The task's id. A recent task's first characters suffice.")
]


def add_to(app: typer.Typer) -> None:
    """Give the command line these commands."""
    for command in (submit, tasks, task, explain, cancel, rate):
        app.command()(command)


def submit(
    request_type: Annotated[
        str, typer.Argument(help="The request type, such as code_generation.")
    ],
    payload: Annotated[
        str | None, typer.Argument(help="JSON, @FILE with JSON, or - for standard input.")
    ] = None,
    payload_option: PayloadOption = None,
    sets: SetOption = None,
    tenant: TenantOption = "default",
    complexity: ComplexityOption = None,
    quality: QualityOption = None,
    speed: SpeedOption = None,
    pool: PoolOption = None,
    model: ModelOption = None,
    max_cost_usd: MaxCostOption = None,
    idempotency_key: KeyOption = None,
    delay: DelayOption = None,
    priority: PriorityOption = 5,
    tool: ToolOption = None,
    approve: ApproveOption = None,
    untrusted: UntrustedOption = False,
    wait: WaitOption = False,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a task.

    With --wait, the exit status is 1 if the task failed or its answer is unverified. A task over a
    limit may be put on hold, as the budget policy says; the limit is shown on standard error.

    Example: `fleet submit code_generation --set instruction="Write add(a, b)." --wait`
    """
    from fleet import Fleet

    submitted = Fleet.from_env().submit(
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
        tools=tool or None,
        approve=approve or (),
        untrusted=untrusted,
    )
    _show_submitted(submitted, wait or timeout is not None, timeout, as_json)


def _show_submitted(task: Task, wait: bool, timeout: float | None, as_json: bool) -> None:
    from fleet.cli.task_view import money_json, on_hold_note

    record = task.record()
    if note := on_hold_note(record):
        say(f"on hold {note}", err=True)
    if wait:
        record = task.wait(timeout)
        show_task(task, as_json)
        raise typer.Exit(0 if record.state == "succeeded" else 1)
    if as_json:
        shown = {"id": task.id, "state": record.state, "pool": task.decision.pool}
        print_json({**shown, "model": record.model, **money_json(record)})
    else:
        say(task.id)


def tasks(
    state: Annotated[str | None, typer.Option(help="Only tasks in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only tasks of this tenant.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List tasks with their state, tokens, cost and times, newest first.

    Example: `fleet tasks --state failed --limit 500`
    """
    from fleet import Fleet
    from fleet.cli.task_view import TASKS, record_json
    from fleet.tasks.store import STATES

    if state is not None and state not in STATES:
        raise InvalidRequest(f"no state is called {state!r}; use one of: {', '.join(STATES)}")
    found = Fleet.from_env().tasks(limit, state, tenant)
    # Without results, which may be large. `fleet task ID --json` has the result.
    print_rows(found, TASKS, lambda task: {**record_json(task), "result": None}, as_json, as_csv)


def task(
    task_id: TaskArgument,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Write the result in a format of its agent, such as sarif (SARIF 2.1.0) for the "
            "findings of a scan, or png for the plot of a performance test.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file for --format. Default: standard output."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a task: state, times, cost, model calls, checkpoints, and its result or error.

    Example: `fleet task 0190c0de-... --format sarif -o findings.sarif`
    """
    from fleet.cli.task_view import write_export

    if output and not form:
        raise InvalidRequest("--output needs --format; give both")
    found = _find(task_id)
    if form:
        write_export(found.record(), form, output)
    if output or not form:
        show_task(found, as_json)


def explain(task_id: TaskArgument, as_json: JsonOption = False) -> None:
    """Show why a task got its pool and its model, with the scores of every candidate.

    Also shown: the model calls, each attempt and the reason for its end, the limit that a task on
    hold waits for, and how long a task waits for the first worker of a pool that has none.

    Example: `fleet explain 0190c0de-...`
    """
    from fleet import Fleet
    from fleet.cli.decision import decision_view, model_json, money_view, start_view
    from fleet.cli.task_view import calls_view, history_view, record_json

    found = _find(task_id)
    record = found.record()
    route = found.decision if record.ranking else None
    model = found.model_decision
    wait = Fleet.from_env().start_wait(record.agent_type) if record.state == "queued" else None
    if as_json:
        shown = record_json(record)
        names = ("state", "waits_for", "held_for", "because", "uncertain_calls", "history")
        facts = {name: shown[name] for name in ("steps", "model_calls", *names)}
        routed = route.to_json() if route else None
        facts["waits_for_worker"] = wait._asdict() if wait else None
        print_json({"id": found.id, "route": routed, "model": model_json(model), **facts})
    else:
        parts = [*start_view(wait), *money_view(record), *calls_view(record), *history_view(record)]
        console().print(decision_view(route, model), *parts)


def cancel(task_id: TaskArgument) -> None:
    """Cancel a waiting or running task. A task that has ended does not change.

    Example: `fleet cancel 0190c0de-...`
    """
    from fleet.tasks.store import ENDED

    before = _find(task_id).cancel()
    if before in ENDED:
        say(f"task {task_id} had already ended: {before}")
    else:
        say(f"task {task_id} was {before} and is cancelled")


def rate(
    task_id: TaskArgument,
    rating: Annotated[float, typer.Argument(help="From 0 (useless) to 1 (very good).")],
    as_json: JsonOption = False,
) -> None:
    """Rate the result of a task. The fleet learns from it how good the model is.

    A second rating replaces the first.

    Example: `fleet rate 0190c0de-... 0.8`
    """
    found = _find(task_id)
    found.rate(rating)
    if as_json:
        print_json({"id": found.id, "rating": rating, "model": found.record().answered_by})
    else:
        say(f"task {found.id} is rated {rating:g}")


def _find(task_id: str) -> Task:
    """The task with this id, or the only recent one whose id begins with it."""
    from fleet import Fleet

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
    """Print a task with all its details."""
    from fleet.cli.task_view import record_json, record_view, saved_json

    record, saved = task.record(), task.saved()
    if as_json:
        print_json({**record_json(record), "saved": saved_json(saved)})
    else:
        console().print(record_view(record, saved))


def read_payload(argument: str | None, option: str | None, sets: list[str]) -> dict[str, Any]:
    """The payload from its JSON and from `--set`, which overrides keys of the JSON.

    Raises `InvalidRequest`.
    """
    if argument is not None and option is not None:
        raise InvalidRequest("the payload is given twice; remove --payload or the argument")
    payload = _object(argument if argument is not None else option)
    for pair in sets:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest(f"--set {pair!r}: write KEY=VALUE, such as --set tests='...'")
        payload[key] = _value(text)
    return payload


def _object(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    try:
        found = json.loads(_text(source))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f'the payload is not JSON: {error}; give an object such as \'{{"instruction": "..."}}\''
        ) from error
    if not isinstance(found, dict):
        raise InvalidRequest("the payload must be a JSON object, in braces")
    return found


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    if not source.startswith("@"):
        return source
    try:
        return Path(source[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"the payload's file {source[1:]}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidRequest(
            f"the payload's file {source[1:]!r} is not UTF-8 text, or not a file ({error})"
        ) from error


def _value(text: str) -> Any:
    """The parsed text if it is JSON, such as a number or a list; else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise InvalidRequest("--set: a value is nested too deeply; make it flatter") from None
