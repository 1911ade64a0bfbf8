"""The command that replays a recorded load through each scaling policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import (
    JsonOption,
    check_plot,
    console,
    counting,
    new_figure,
    print_json,
    save,
    seconds,
)
from fleet.cli.rows import Column, figure, table
from fleet.errors import InvalidRequest

if TYPE_CHECKING:
    from fleet.scaling.plan import Planned
    from fleet.scaling.rules.simulation import Conditions, Trace
    from fleet.settings.config import FleetConfig
    from fleet.settings.routing import Pool

INCHES = (11.0, 6.5)

TraceOption = Annotated[
    Path,
    typer.Option("--trace", help="A CSV file with the columns submitted and run_seconds."),
]
PolicyOption = Annotated[
    list[str] | None, typer.Option("--policy", help="Only this policy. May be repeated.")
]
PoolOption = Annotated[
    str,
    typer.Option("--pool", help="Take slots, min, max and the price from this pool of fleet.toml."),
]
SlotsOption = Annotated[
    int | None, typer.Option("--slots", min=1, help="Tasks that a worker runs at once. Default: 1.")
]
MinOption = Annotated[
    int | None, typer.Option("--min", min=0, help="Workers at least. Default: 1.")
]
MaxOption = Annotated[
    int | None, typer.Option("--max", min=1, help="Workers at most. Default: 1000.")
]
StartOption = Annotated[
    float, typer.Option("--start-seconds", min=0.0, help="How long a worker takes to start.")
]
MeanOption = Annotated[
    float,
    typer.Option("--mean-seconds", min=0.001, help="The run of a task, without run_seconds."),
]
PriceOption = Annotated[
    float | None, typer.Option("--usd-per-hour", min=0.0, help="What a worker costs in an hour.")
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw tasks and workers over time into this PNG.")
]


def add_to(app: typer.Typer) -> None:
    """Give `fleet scale` this command."""
    app.command("plan")(scale_plan)


def scale_plan(
    trace: TraceOption,
    policy: PolicyOption = None,
    pool: PoolOption = "",
    slots: SlotsOption = None,
    min_: MinOption = None,
    max_: MaxOption = None,
    start_seconds: StartOption = 5.0,
    mean_seconds: MeanOption = 10.0,
    usd_per_hour: PriceOption = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a recorded load through each policy: what it costs, and how long tasks wait.

    The file has a line for each task: `submitted` in seconds or as a date with a time, and
    `run_seconds`, such as `fleet tasks --csv` writes. With --pool only the tasks of that pool
    count, if there is a column `pool`. The file may be compressed (.gz). Nothing is started. A
    worker is paid from its start until its last task has ended.

    Exit status: 0, or 2 for a faulty file or option.

    Example: `fleet scale plan --trace load.csv --pool codegen --start-seconds 30 --plot plan.png`
    """
    from fleet.scaling.plan import plan, read_trace, to_json
    from fleet.scaling.policies import installed_policies
    from fleet.settings import load_settings
    from fleet.text import unknown

    check_plot(plot)
    policies = dict(installed_policies())
    for name in policy or ():
        if name not in policies:
            raise InvalidRequest(unknown("policy", name, policies))
    chosen = [policies[name] for name in policy or policies]
    given = {"slots": slots, "min": min_, "max": max_}
    own = _configured(load_settings().config, pool) if pool else None
    conditions = _conditions(own, given, start_seconds)
    if usd_per_hour is None and own is not None:
        usd_per_hour = own.worker_usd_per_hour or None
    tasks = read_trace(trace, mean_seconds, pool)
    with counting("policies", len(chosen)) as progress:
        rows = plan(tasks, conditions, chosen, usd_per_hour, progress)
    if plot:
        write_plot(rows, plot)
    if as_json:
        print_json(to_json(tasks, conditions, rows))
    else:
        _show(tasks, conditions, rows)


def _configured(config: FleetConfig, pool: str) -> Pool:
    from fleet.text import unknown

    if pool not in config.pools:
        raise InvalidRequest(unknown("pool", pool, config.pools))
    return config.pools[pool]


def _conditions(
    own: Pool | None, given: dict[str, int | None], start_seconds: float
) -> Conditions:
    """The pool as configured, and what the options say about it."""
    from fleet.scaling.rules.simulation import Conditions

    found = Conditions(slots=1, min=1, max=1000, start_seconds=start_seconds)
    if own is not None:
        found = found._replace(slots=own.slots, min=own.min, max=own.max)
    found = found._replace(**{name: value for name, value in given.items() if value is not None})
    if found.min > found.max:
        raise InvalidRequest(f"--min {found.min} is over --max {found.max}; lower it or raise max")
    return found


def _show(trace: Trace, conditions: Conditions, rows: list[Planned]) -> None:
    hours = trace.arrival[-1] / 3600
    each = "slot" if conditions.slots == 1 else "slots"
    console().print(
        f"{len(trace.arrival)} tasks in {hours:.1f} h; workers of {conditions.slots} {each}, "
        f"{conditions.min} to {conditions.max}, {conditions.start_seconds:g} s to start"
    )
    console().print(table(rows, COLUMNS))


def write_plot(rows: list[Planned], path: Path) -> None:
    """Draw the workers of each policy, and the tasks that wait, over time."""
    drawing = new_figure(*INCHES)
    workers, waiting = drawing.subplots(2, 1, sharex=True)
    for number, row in enumerate(rows):
        _draw(workers, waiting, row, f"C{number}")
    workers.set_ylabel("workers")
    waiting.set_ylabel("waiting tasks")
    waiting.set_yscale("symlog")
    waiting.set_xlabel("hours")
    for axes in (workers, waiting):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
    drawing.legend(*workers.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(drawing, path)


def _draw(workers: Any, waiting: Any, row: Planned, colour: str) -> None:
    from fleet.text import plain_label

    hours = [moment.at / 3600 for moment in row.timeline]
    label = plain_label(row.policy)
    workers.step(hours, [m.workers for m in row.timeline], where="post", color=colour, label=label)
    waiting.step(hours, [m.queued for m in row.timeline], where="post", color=colour)


COLUMNS: tuple[Column[Planned], ...] = (
    Column("policy", lambda row: row.policy),
    figure("worker hours", lambda row: f"{row.paid_hours:.1f}"),
    figure("paid / busy", lambda row: f"{row.paid_to_busy:.2f}"),
    figure("cost", lambda row: "-" if row.usd is None else f"${row.usd:.2f}"),
    figure("wait mean", lambda row: seconds(row.wait_mean)),
    figure("p50", lambda row: seconds(row.wait_p50)),
    figure("p95", lambda row: seconds(row.wait_p95)),
    figure("p99", lambda row: seconds(row.wait_p99)),
    figure("most workers", lambda row: str(row.most_workers)),
)
