"""`fleet demo`: start a fleet, submit real tasks, show the results, and stop the fleet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import console, dollars, own_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fleet import Fleet, Task
    from fleet.cli.demo_fleet import DemoFleet
    from fleet.settings import Settings
    from fleet.tasks.store import TaskRecord

WORK_SECONDS = 150.0
RULE_WIDTH = 100
EXAMPLE_APPLICATION = "examples/vulnerable_app"


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the fleet running until Ctrl-C.")
    ] = False,
    load: Annotated[
        str, typer.Option("--load", help="burst: show how pools grow and shrink with the load.")
    ] = "",
    bursts: Annotated[
        int, typer.Option("--bursts", min=1, max=20, help="How many bursts `--load burst` has.")
    ] = 3,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Where `--load burst` writes its plot, a PNG.")
    ] = None,
) -> None:
    """Start a fleet on this machine, submit real tasks, show the results, and stop the fleet.

    `--load burst` submits many tasks at once to a fleet of its own, whose model is a stand-in that
    answers after two seconds. It shows how fast the pool grows, and checks that no task is lost,
    run twice or cut. Each burst takes one to two minutes.

    The exit status is 1 if a task failed. An answer that did not pass its checks is shown as
    unverified and does not count as a failure.

    Example: `fleet demo --keep`
    """
    from fleet.cli.demo_fleet import demo_fleet
    from fleet.settings import load_settings

    screen = console()
    if load:
        from fleet.cli.demo_load import check_load, run_burst

        check_load(load)
        raise typer.Exit(1 if run_burst(screen, load_settings(), bursts, plot) else 0)
    with demo_fleet(load_settings()) as started:
        _title(screen, "Starting a fleet")
        screen.print(f"Its processes log to {started.log}")
        try:
            failed = _run(screen, started, keep)
            if keep:
                _keep(screen, started)
        finally:
            screen.print("\nStopping the fleet.")
    raise typer.Exit(1 if failed else 0)


def _run(screen: Console, started: DemoFleet, keep: bool) -> bool:
    """Run the demo. Returns whether a task failed."""
    from fleet import Fleet
    from fleet.cli.demo_fleet import show_start, show_work

    show_start(screen, started.parts_until_healthy(), started.began)
    fleet = Fleet.from_env()
    chosen, tasks = _submit(screen, fleet)
    seconds = time.monotonic() - started.began
    screen.print(f"{len(tasks)} tasks submitted, {seconds:.1f} s after the start\n")
    try:
        records = show_work(screen, chosen, tasks, time.monotonic() + WORK_SECONDS)
    finally:
        # After Ctrl-C some may be unfinished. The next fleet in this folder would run them.
        for each in tasks:
            each.cancel()
    _title(screen, "Results")
    for task, record in zip(chosen, records, strict=True):
        _show_result(screen, fleet.settings, task, record)
    _show_decision(screen, chosen[0], tasks[0])
    _show_summary(screen, records, is_kept=keep)
    return any(record.state not in ("succeeded", "unverified") for record in records)


def _submit(screen: Console, fleet: Fleet) -> tuple[list[DemoTask], list[Task]]:
    _title(screen, "Submitting tasks")
    chosen, notes = demo_tasks(Path(fleet.settings.config.agents.read_roots[0]))
    for note in notes:
        screen.print(note)
    tasks = [
        fleet.submit(each.request_type, each.payload, tenant="demo", complexity=each.complexity)
        for each in chosen
    ]
    return chosen, tasks


def _show_result(
    screen: Console, settings: Settings, task: DemoTask, record: TaskRecord
) -> None:
    from rich.text import Text

    from fleet.cli.output import state
    from fleet.cli.task_view import isolation_note, result_view
    from fleet.errors import InvalidRequest

    screen.print(Text.assemble("\n", (task.title, "bold"), ": ", state(record.state)))
    if isolation := isolation_note(record.result):
        screen.print(Text(f"isolation of its code: {isolation}", style="dim"))
    if record.result is None and record.error:
        screen.print(Text(record.error["message"], style="red"))
    if record.result is not None:
        screen.print(result_view(record.agent_type, record.result, task.max_rows))
    if record.result is not None and task.export:
        try:
            screen.print(f"{task.export}: {_export(settings, record, task.export)}")
        except InvalidRequest as error:
            screen.print(Text(str(error), style="dim"))


def _export(settings: Settings, record: TaskRecord, form: str) -> Path:
    from fleet.cli.task_view import write_export
    from fleet.local.run_file import make_data_dir

    folder = make_data_dir(settings) / "demo"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{record.id}.{form}"
    write_export(record, form, target)
    return target


def _show_decision(screen: Console, shown: DemoTask, task: Task) -> None:
    from fleet.cli.decision import decision_view

    _title(screen, f"Why the task {shown.title!r} got its pool and its model")
    screen.print(decision_view(task.decision, task.model_decision))


def _show_summary(screen: Console, records: Sequence[TaskRecord], is_kept: bool) -> None:
    _title(screen, "Cost")
    spent = sum(record.cost_nanodollars for record in records)
    tokens = sum(record.input_tokens + record.output_tokens for record in records)
    models = ", ".join(sorted({record.model for record in records if record.model}))
    free = "" if spent else ", which is free"
    screen.print(f"{dollars(spent)} for {tokens:,} tokens of {models or 'no model'}{free}")
    _title(screen, "Next steps")
    steps = _next_steps(records[0].id)
    for command, purpose in steps[1:] if is_kept else steps:
        screen.print(f"{command}\n    {purpose}", soft_wrap=True)


def _next_steps(task_id: str) -> tuple[tuple[str, str], ...]:
    fleet = own_command()
    return (
        (f"{fleet} up", "run the fleet until Ctrl-C; it still has the tasks of this demo"),
        (f"{fleet} status", "check its health; run this and the following from another terminal"),
        (
            f"{fleet} submit code_generation --set instruction='Write a function ...' --wait",
            "submit a task of your own",
        ),
        (f"{fleet} tasks", "list its tasks"),
        (f"{fleet} explain {task_id}", "see why that task got its pool and its model"),
    )


def _keep(screen: Console, started: DemoFleet) -> None:
    import signal

    from fleet.cli.status import flower_url
    from fleet.settings import load_settings

    login = started.login
    screen.print(f"\nThe fleet runs until Ctrl-C. Flower: {flower_url(load_settings())}")
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


@dataclass(frozen=True, slots=True)
class DemoTask:
    """A task of the demo and its title. `max_rows` shortens a long result. `export` is the format
    of a file to write the result to."""

    title: str
    request_type: str
    payload: dict[str, Any]
    complexity: float = 0.3
    max_rows: int | None = None
    export: str = ""


# Small enough for the local model, which usually solves each of them. Its answers depend on every
# word of an instruction: another wording may fail.
CODE = (
    DemoTask(
        "add two numbers",
        "code_generation",
        {
            "instruction": "Write a function add(a, b) that returns the sum of a and b.",
            "tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0",
        },
        complexity=0.1,
    ),
    DemoTask(
        "reverse a text",
        "code_generation",
        {
            "instruction": "Write a function reverse_string(s) that returns the string s reversed.",
            "tests": "assert reverse_string('abc') == 'cba'\nassert reverse_string('') == ''",
        },
        complexity=0.2,
    ),
    DemoTask(
        "largest number",
        "code_generation",
        {
            "instruction": (
                "Write a function maximum(numbers) that returns the largest number in a list."
            ),
            "tests": "assert maximum([3, 9, 2]) == 9\nassert maximum([-5, -2]) == -2",
        },
        complexity=0.3,
    ),
    DemoTask(
        "tell primes",
        "code_generation",
        {
            "instruction": (
                "Write a function is_prime(n) that returns True if n is a prime number."
            ),
            "tests": "assert is_prime(7)\nassert not is_prime(9)\nassert not is_prime(1)",
        },
        complexity=0.4,
    ),
)

TIMINGS = DemoTask(
    "find duplicates, two ways",
    "performance_test",
    {
        "setup": "import random\nitems = [random.randrange(10**9) for _ in range(200)]",
        "variants": [
            {
                "name": "compare pairs",
                "code": (
                    "def has_duplicates(items):\n"
                    "    return any(a == b for i, a in enumerate(items) for b in items[:i])"
                ),
                "call": "has_duplicates(items)",
            },
            {
                "name": "build a set",
                "code": "def has_duplicates(items):\n    return len(set(items)) < len(items)",
                "call": "has_duplicates(items)",
            },
        ],
        "seconds": 8,
    },
    export="png",
)


def demo_tasks(read_root: Path) -> tuple[list[DemoTask], list[str]]:
    """The tasks of the demo, and a note for each scan whose files are missing.

    Agents may read only files under `read_root`.
    """
    chosen, notes = list(CODE), []
    for title, folder, max_rows in _scans():
        path = Path(folder).resolve()
        if path.is_dir() and path.is_relative_to(read_root.resolve()):
            payload = {"paths": [str(path.relative_to(read_root.resolve()))]}
            chosen.append(DemoTask(title, "security_analysis", payload, 0.5, max_rows))
        else:
            notes.append(f"not scanned: {title}, {folder} is not under {read_root.resolve()}")
    return [*chosen, TIMINGS], notes


def _scans() -> tuple[tuple[str, str, int | None], ...]:
    own = str(Path(__file__).parents[1] / "sandbox")
    return (
        ("planted holes", EXAMPLE_APPLICATION, None),
        ("Fleet's own sandbox", own, 5),
    )
