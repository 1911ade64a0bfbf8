"""`fleet simulate`: what other strategies, weights, pools or models would have come to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import JsonOption, console, error_console, print_json

if TYPE_CHECKING:
    from fleet.simulation.run import Progress


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
    from fleet.cli.simulation_view import report_view, write_plot
    from fleet.connection import open_connection
    from fleet.settings import load_settings
    from fleet.simulation.options import figures, synthetic_load
    from fleet.simulation.rules.events import Conditions
    from fleet.simulation.run import Ask, report

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
