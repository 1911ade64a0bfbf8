"""`fleet simulate`: compare other strategies, weights, pools or models with what happened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.connect import connect
from fleet.cli.output import (
    JsonOption,
    check_plot,
    console,
    dollars,
    error_console,
    print_json,
    seconds,
)
from fleet.cli.rows import Column, figure, table
from fleet.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from fleet.simulation.report import Report
    from fleet.simulation.report import Row as SimulationRow
    from fleet.simulation.run import Ask, Progress
    from fleet.simulation.source import SyntheticLoad

INCHES = (11.0, 4.5)
SHORTEST_DRAWN = 1e-3

# What is simulated.
RecordedOption = Annotated[
    bool, typer.Option("--recorded", help="Replay the newest tasks of this fleet.")
]
CsvFileOption = Annotated[Path | None, typer.Option("--csv", help="Replay the tasks of this file.")]
SyntheticOption = Annotated[
    bool, typer.Option("--synthetic", help="Simulate a load of random tasks.")
]
TasksOption = Annotated[
    int,
    typer.Option("--tasks", min=1, max=1_000_000, help="The number of recorded or random tasks."),
]
# The random load.
RateOption = Annotated[
    float | None,
    typer.Option("--rate", help="Tasks per second. Default: load 0.8 of the busiest agent type."),
]
MeanOption = Annotated[
    float | None, typer.Option("--mean-seconds", help="The mean time of a run. Default: 10.")
]
CvOption = Annotated[
    float | None,
    typer.Option("--cv", help="Standard deviation of the times over their mean. Default: 2."),
]
MixOption = Annotated[
    str | None,
    typer.Option("--mix", help="Shares of request types, such as code_generation=3,nap=1."),
]
# The changes to compare with the configured fleet.
StrategyOption = Annotated[
    list[str] | None, typer.Option("--strategy", help="Simulate this strategy. May be repeated.")
]
WeightsOption = Annotated[
    str,
    typer.Option("--weights", help="Other weights of ai_optimized, such as success=0.5,load=0.1."),
]
PoolsOption = Annotated[
    Path | None,
    typer.Option("--pools", help="Simulate the pools and routes of this fleet.toml."),
]
ModelsOption = Annotated[
    Path | None,
    typer.Option("--models", help="Simulate the models of this fleet.toml, with all keys set."),
]
# The conditions.
AgeOption = Annotated[
    float,
    typer.Option("--snapshot-age", help="The maximum age of a producer's snapshot, in seconds."),
]
ProducersOption = Annotated[
    int, typer.Option("--producers", help="The number of processes that submit tasks.")
]
RunsOption = Annotated[
    int, typer.Option("--runs", min=1, max=100, help="The maximum number of runs of a task.")
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="The random seed. Equal seeds give equal results.")
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw the waits and the shares of the pools into this PNG."),
]


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(simulate)


def simulate(
    recorded: RecordedOption = False,
    csv: CsvFileOption = None,
    synthetic: SyntheticOption = False,
    tasks: TasksOption = 1000,
    rate: RateOption = None,
    mean_seconds: MeanOption = None,
    cv: CvOption = None,
    mix: MixOption = None,
    strategy: StrategyOption = None,
    weights: WeightsOption = "",
    pools: PoolsOption = None,
    models: ModelsOption = None,
    snapshot_age: AgeOption = 1.0,
    producers: ProducersOption = 4,
    runs: RunsOption = 1,
    seed: SeedOption = 1,
    plot: PlotOption = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate tasks under other strategies, weights, pools or models.

    The fleet as configured is always simulated too. The difference between the two simulations is
    the effect of the change; the difference from what happened is the error of the simulation.

    A CSV file has the columns submitted (seconds), request_type and run_seconds. Optional columns
    are wait_seconds, good (1 or 0), pool, tenant, complexity, model, input_tokens, output_tokens
    and cost_usd.

    Example: `fleet simulate --recorded --strategy soonest --strategy least_loaded`

    Example: `fleet simulate --synthetic --tasks 20000 --pools larger.toml --plot waits.png`
    """
    from fleet.simulation.rules.events import Conditions
    from fleet.simulation.run import Ask

    load = {"rate": rate, "mean_seconds": mean_seconds, "cv": cv, "mix": mix}
    ask = Ask(
        recorded=tasks if recorded else None,
        csv=csv,
        synthetic=_synthetic_load(synthetic, tasks, load),
        strategies=tuple(strategy or ()),
        weights=parse_pairs("--weights", weights),
        pools=pools,
        models=models,
        conditions=Conditions(age=snapshot_age, producers=producers),
        runs=runs,
        seed=seed,
    )
    _simulate(ask, plot, as_json)


def _simulate(ask: Ask, plot: Path | None, as_json: bool) -> None:
    from fleet.simulation.run import report

    check_plot(plot)
    connection = connect("read", "fleet simulate")
    with _progress() as progress:
        found = report(connection, ask, progress)
    if plot:
        write_plot(found, plot)
    if as_json:
        print_json(found.to_json())
    else:
        console().print(report_view(found))


def parse_pairs(option: str, text: str) -> dict[str, float]:
    """The pairs `NAME=NUMBER,...` of an option. Raises `InvalidRequest`."""
    found: dict[str, float] = {}
    for pair in filter(None, text.split(",")):
        name, _, number = pair.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise InvalidRequest(
                f"{option}: {pair!r} is not NAME=NUMBER; give such pairs, separated by commas"
            ) from None
    return found


def _synthetic_load(wanted: bool, tasks: int, given: Mapping[str, Any]) -> SyntheticLoad | None:
    """The random load, if `--synthetic` asks for one. `given` maps its other options to a value or
    None.

    Raises `InvalidRequest` for such an option without `--synthetic`.
    """
    from fleet.simulation.source import SyntheticLoad

    fields = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        for name in fields:
            option = name.replace("_", "-")
            raise InvalidRequest(f"--{option} needs --synthetic; add it or remove --{option}")
        return None
    if "mix" in fields:
        fields["mix"] = parse_pairs("--mix", fields["mix"])
    return SyntheticLoad(tasks, **fields)


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A progress bar for each simulation on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    name_of = TextColumn("{task.description}", markup=False)
    columns = (name_of, BarColumn(), TaskProgressColumn())
    with Bars(*columns, console=error_console(), transient=True) as bars:
        shown: dict[str, TaskID] = {}

        def show(name: str, arrived: int, total: int) -> None:
            if name not in shown:
                shown[name] = bars.add_task(name, total=total)
            bars.update(shown[name], completed=arrived)

        yield show


def report_view(report: Report) -> Group:
    """A row for what happened and one for each simulation; then what was measured and assumed."""
    from rich.console import Group
    from rich.text import Text

    source = f"{report.tasks} {report.source} tasks"
    left_out = f", {report.left_out} left out because they have not ended or were cancelled"
    parts: list[RenderableType] = [
        Text(source + (left_out if report.left_out else ""), style="bold"),
        table(report.rows, FIGURES),
        Text(),
        table(report.rows, _share_columns(report.rows)),
        Text(),
    ]
    parts += [Text(f"measured: {sentence}", style="dim") for sentence in report.measured]
    parts += [Text(f"assumed: {sentence}", style="dim") for sentence in report.assumed]
    return Group(*parts)


def _time(of: Callable[[SimulationRow], float]) -> Callable[[SimulationRow], str]:
    """A time of a row. A dash stands for no ended task."""
    return lambda row: seconds(of(row)) if len(row.waits) else "-"


def _share_columns(rows: list[SimulationRow]) -> list[Column[SimulationRow]]:
    """A column for each pool and each model, with its share of the tasks."""
    names = dict.fromkeys(name for row in rows for name in (*row.figures.by_pool, *row.models))
    return [Column("share of the tasks", lambda row: row.name), *map(_share, names)]


def _share(name: str) -> Column[SimulationRow]:
    def cell(row: SimulationRow) -> str:
        shares = {**row.figures.by_pool, **row.models}
        return f"{shares.get(name, 0.0):.0%}"

    return figure(name, cell)


def write_plot(report: Report, path: Path) -> None:
    """Draw the report as PNG. Raises `InvalidRequest` if the file cannot be written."""
    from fleet.cli.output import new_figure, save

    drawing = new_figure(*INCHES)
    waits, shares = drawing.subplots(1, 2)
    _draw_waits(waits, report.rows)
    _draw_shares(shares, report.rows)
    drawing.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(drawing, path)


def _draw_waits(axes: Any, rows: list[SimulationRow]) -> None:
    """The share of tasks that wait longer than x seconds, on two log scales."""
    import numpy as np

    for number, row in enumerate(rows):
        longest_first = np.sort(row.waits)[::-1]
        share = np.arange(1, len(longest_first) + 1) / max(len(longest_first), 1)
        axes.step(np.maximum(longest_first, SHORTEST_DRAWN), share, color=f"C{number}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("wait in seconds")
    axes.set_ylabel("share of the tasks that wait longer")
    axes.grid(alpha=0.3)


def _draw_shares(axes: Any, rows: list[SimulationRow]) -> None:
    """Each pool's share of the tasks, a bar for each simulated fleet."""
    from fleet.text import plain_label

    pools = list(dict.fromkeys(name for row in rows for name in row.figures.by_pool))
    width = 0.8 / len(rows)
    for number, row in enumerate(rows):
        places = [place + number * width for place in range(len(pools))]
        heights = [row.figures.by_pool.get(name, 0.0) for name in pools]
        axes.bar(places, heights, width, label=plain_label(row.name), color=f"C{number}")
    middle = 0.4 - width / 2
    axes.set_xticks([place + middle for place in range(len(pools))], pools, rotation=30, ha="right")
    axes.set_ylabel("share of the tasks")
    axes.grid(axis="y", alpha=0.3)


FIGURES: tuple[Column[SimulationRow], ...] = (
    Column("", lambda row: row.name),
    figure("wait mean", _time(lambda row: row.figures.wait.mean)),
    figure("p50", _time(lambda row: row.figures.wait.p50)),
    figure("p99", _time(lambda row: row.figures.wait.p99)),
    figure("answer mean", _time(lambda row: row.figures.answer.mean)),
    figure("p50", _time(lambda row: row.figures.answer.p50)),
    figure("p99", _time(lambda row: row.figures.answer.p99)),
    figure("good", lambda row: f"{row.figures.good:.1%}"),
    figure("retried", lambda row: f"{row.figures.again:.1%}"),
    figure("cost", lambda row: "-" if row.cost is None else dollars(row.cost)),
    figure("quality", lambda row: "-" if row.quality is None else f"{row.quality:.2f}"),
)
