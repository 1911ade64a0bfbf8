"""`fleet demo`: start a fleet, give it real work, show what comes of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import console, dollars, own_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from fleet import Fleet, Task
    from fleet.cli.demo_fleet import DemoFleet
    from fleet.cli.demo_work import Errand
    from fleet.settings import Settings
    from fleet.tasks.store import TaskRecord

WORK_SECONDS = 150.0
RULE_WIDTH = 100


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the fleet running until Ctrl-C.")
    ] = False,
) -> None:
    """Start a fleet on this machine, give it real work, show the results, stop it.

    Exit status 1 when a task failed. An answer that did not pass its checks is shown as
    unverified and is no failure.

    Example: `fleet demo --keep`
    """
    from fleet.cli.demo_fleet import demo_fleet
    from fleet.settings import load_settings

    screen = console()
    with demo_fleet(load_settings()) as started:
        _title(screen, "Starting a fleet")
        screen.print(f"What its processes say goes to {started.log}")
        try:
            failed = _run(screen, started, keep)
            if keep:
                _keep(screen, started)
        finally:
            screen.print("\nStopping the fleet.")
    raise typer.Exit(1 if failed else 0)


def _run(screen: Console, started: DemoFleet, keep: bool) -> bool:
    """The demo itself; whether a task failed."""
    from fleet import Fleet
    from fleet.cli.demo_view import show_start, show_work

    show_start(screen, started.parts_until_healthy(), started.began)
    fleet = Fleet.from_env()
    errands, tasks = _submit(screen, fleet)
    seconds = time.monotonic() - started.began
    screen.print(f"{len(tasks)} tasks, the last one {seconds:.1f} s after the start\n")
    try:
        records = show_work(screen, errands, tasks, time.monotonic() + WORK_SECONDS)
    finally:
        # What did not end, after Ctrl-C, would be taken up by the next fleet of this folder.
        for task in tasks:
            task.cancel()
    _title(screen, "Results")
    for errand, record in zip(errands, records, strict=True):
        _result(screen, fleet.settings, errand, record)
    _decision(screen, errands, tasks)
    _farewell(screen, records, goes_on=keep)
    return any(record.state not in ("succeeded", "unverified") for record in records)


def _submit(screen: Console, fleet: Fleet) -> tuple[list[Errand], list[Task]]:
    from pathlib import Path

    from fleet.cli.demo_work import errands

    _title(screen, "Submitting work")
    chosen, notes = errands(Path(fleet.settings.config.agents.read_roots[0]))
    for note in notes:
        screen.print(note)
    tasks = [
        fleet.submit(each.request_type, each.payload, tenant="demo", complexity=each.complexity)
        for each in chosen
    ]
    return chosen, tasks


def _result(screen: Console, settings: Settings, errand: Errand, record: TaskRecord) -> None:
    from rich.text import Text

    from fleet.cli.output import state
    from fleet.cli.task_view import isolation_note, result_view
    from fleet.errors import InvalidRequest

    screen.print(Text.assemble("\n", (errand.title, "bold"), ": ", state(record.state)))
    if isolation := isolation_note(record.result):
        screen.print(Text(f"its code ran in isolation: {isolation}", style="dim"))
    if record.result is None and record.error:
        screen.print(Text(record.error["message"], style="red"))
    if record.result is not None:
        screen.print(result_view(record.agent_type, record.result, errand.max_rows))
    if record.result is not None and errand.export:
        try:
            screen.print(f"{errand.export}: {_export(settings, record, errand.export)}")
        except InvalidRequest as error:
            screen.print(Text(str(error), style="dim"))


def _export(settings: Settings, record: TaskRecord, form: str) -> Path:
    from fleet.cli.task_view import write_export

    folder = settings.environment.data_dir / "demo"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{record.id}.{form}"
    write_export(record, form, target)
    return target


def _decision(screen: Console, errands: Sequence[Errand], tasks: Sequence[Task]) -> None:
    from fleet.cli.decision import decision_view

    _title(screen, f"Why the task {errands[0].title!r} went where it did")
    screen.print(decision_view(tasks[0].decision, tasks[0].model_decision))


def _farewell(screen: Console, records: Sequence[TaskRecord], goes_on: bool) -> None:
    _title(screen, "What it took")
    spent = sum(record.cost_nanodollars for record in records)
    tokens = sum(record.input_tokens + record.output_tokens for record in records)
    models = ", ".join(sorted({record.model for record in records if record.model}))
    free = "" if spent else ", which costs nothing"
    screen.print(f"{dollars(spent)} for {tokens:,} tokens of {models or 'no model'}{free}")
    _title(screen, "What next")
    steps = _next_steps(records[0].id)
    for command, purpose in steps[1:] if goes_on else steps:
        screen.print(f"{command}\n    {purpose}", soft_wrap=True)


def _next_steps(task_id: str) -> tuple[tuple[str, str], ...]:
    fleet = own_command()
    return (
        (f"{fleet} up", "run the fleet until Ctrl-C; it has the tasks of this demo still"),
        (f"{fleet} status", "see that all is well, from another terminal, as all that follows"),
        (
            f"{fleet} submit code_generation --set instruction='Write a function ...' --wait",
            "give it work of your own",
        ),
        (f"{fleet} tasks", "list what it has done"),
        (f"{fleet} explain {task_id}", "see why that task got its pool and its model"),
    )


def _keep(screen: Console, started: DemoFleet) -> None:
    import signal

    from fleet.cli.status import flower_url
    from fleet.settings import load_settings

    login = started.login
    screen.print(f"\nThe fleet goes on until Ctrl-C. Flower: {flower_url(load_settings())}")
    screen.print(f"user {login.user}, password {login.password}", soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        started.process.wait()
    except KeyboardInterrupt:
        return


def _title(screen: Console, text: str) -> None:
    from rich.rule import Rule

    screen.print()
    screen.print(Rule(text, align="left"), width=min(RULE_WIDTH, screen.width))
