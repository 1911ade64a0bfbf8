"""`fleet simulate`: what other strategies, weights, pools or models would have come to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, dollars, error_console, print_json, seconds
from fleet.cli.rows import Column, figure, table

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from fleet.simulation.report import Report
    from fleet.simulation.report import Row as SimulationRow
    from fleet.simulation.run import Progress

INCHES = (11.0, 4.5)
SHORTEST_DRAWN = 1e-3


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(simulate)


def simulate(
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Replay the newest tasks that this fleet has run.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(help="Replay the tasks of this file.")] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Simulate a load that is drawn by lot.")
    ] = False,
    tasks: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="So many recorded or synthetic tasks.")
    ] = 1000,
    rate: Annotated[
        float | None,
        typer.Option(help="Synthetic tasks a second; else the busiest agent type has load 0.8."),
    ] = None,
    mean_seconds: Annotated[
        float | None, typer.Option(help="The mean of synthetic runs; else 10.")
    ] = None,
    cv: Annotated[
        float | None, typer.Option(help="Their standard deviation over their mean; else 2.")
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(help="Shares of synthetic request types, as code_generation=3,nap=1."),
    ] = None,
    strategy: Annotated[
        list[str] | None, typer.Option(help="Simulate this strategy; as often as wanted.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Weights of ai_optimized to change, as success=0.5,load=0.1.")
    ] = "",
    pools: Annotated[
        Path | None, typer.Option(help="A fleet.toml whose pools and routes are simulated.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="A fleet.toml whose models are simulated, as if every key were set."),
    ] = None,
    snapshot_age: Annotated[
        float, typer.Option(help="How old, in seconds, a producer's knowledge may get.")
    ] = 1.0,
    producers: Annotated[int, typer.Option(help="Processes that submit.")] = 4,
    runs: Annotated[
        int, typer.Option(min=1, max=100, help="A failed task is tried up to so many times.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed brings the same luck.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw waits and the pools' shares into this PNG.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate tasks under other strategies, weights, pools or models, beside what happened.

    The fleet as it is configured is always simulated too: so what a change does can be told
    from what the simulation does.

    A CSV file has the columns submitted (seconds), request_type and run_seconds, and may have
    wait_seconds, good (1 or 0), pool, tenant, complexity, model, input_tokens, output_tokens and
    cost_usd.

    Example: `fleet simulate --recorded --strategy soonest --strategy least_loaded`

    Example: `fleet simulate --synthetic --tasks 20000 --pools larger.toml --plot waits.png`
    """
    from fleet.cli.plots import check_plot
    from fleet.settings import load_settings
    from fleet.simulation.options import figures, synthetic_load
    from fleet.simulation.rules.events import Conditions
    from fleet.simulation.run import Ask, report
    from fleet.tasks.connection import open_connection

    check_plot(plot)
    drawn = {"rate": rate, "mean_seconds": mean_seconds, "cv": cv, "mix": mix}
    ask = Ask(
        recorded=tasks if recorded else None,
        csv=csv,
        synthetic=synthetic_load(synthetic, tasks, drawn),
        strategies=tuple(strategy or ()),
        weights=figures("--weights", weights),
        pools=pools,
        models=models,
        conditions=Conditions(age=snapshot_age, producers=producers),
        runs=runs,
        seed=seed,
    )
    with _progress() as progress:
        found = report(open_connection(load_settings()), ask, progress)
    if plot:
        write_plot(found, plot)
    if as_json:
        print_json(found.to_json())
    else:
        console().print(report_view(found))


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar for each simulation on the error stream, where that is a terminal."""
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
    """What happened and what would happen, a line each; then what is known and what is assumed."""
    from rich.console import Group
    from rich.text import Text

    source = f"{report.tasks} {report.source} tasks"
    left_out = f", {report.left_out} left out that have not ended or were cancelled"
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
    """A time of a row; a dash where no task has ended."""
    return lambda row: seconds(of(row)) if len(row.waits) else "-"


def _share_columns(rows: list[SimulationRow]) -> list[Column[SimulationRow]]:
    """The share of the tasks of each pool and each model."""
    names = dict.fromkeys(name for row in rows for name in (*row.figures.by_pool, *row.models))
    return [Column("share of the tasks", lambda row: row.name), *map(_share, names)]


def _share(name: str) -> Column[SimulationRow]:
    def cell(row: SimulationRow) -> str:
        shares = {**row.figures.by_pool, **row.models}
        return f"{shares.get(name, 0.0):.0%}"

    return figure(name, cell)


def write_plot(report: Report, path: Path) -> None:
    """Draw the report. Raises `InvalidRequest` where the file cannot be written."""
    from fleet.cli.plots import new_figure, save

    drawing = new_figure(*INCHES)
    waits, shares = drawing.subplots(1, 2)
    _draw_waits(waits, report.rows)
    _draw_shares(shares, report.rows)
    drawing.legend(*shares.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(drawing, path)


def _draw_waits(axes: Any, rows: list[SimulationRow]) -> None:
    """The share of the tasks that waits longer than so many seconds, both on log scales."""
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
    """The share of the tasks that each pool takes, a bar for each fleet."""
    from fleet.text.plain_text import plain_label

    pools = list(dict.fromkeys(name for row in rows for name in row.figures.by_pool))
    thick = 0.8 / len(rows)
    for number, row in enumerate(rows):
        places = [place + number * thick for place in range(len(pools))]
        heights = [row.figures.by_pool.get(name, 0.0) for name in pools]
        axes.bar(places, heights, thick, label=plain_label(row.name), color=f"C{number}")
    middle = 0.4 - thick / 2
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
    figure("again", lambda row: f"{row.figures.again:.1%}"),
    figure("cost", lambda row: "-" if row.cost is None else dollars(row.cost)),
    figure("quality", lambda row: "-" if row.quality is None else f"{row.quality:.2f}"),
)
