"""`fleet scale`: how many workers each pool has and why, and how people change that."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fleet.cli import scale_plan
from fleet.cli.output import (
    ByOption,
    JsonOption,
    LimitOption,
    WhyOption,
    check_plot,
    console,
    moment,
    print_json,
    say,
    seconds,
)
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typer._click import Context

    from fleet.scaling.administration import PoolSize
    from fleet.scaling.rules.values import ScalingPolicy
    from fleet.scaling.store import HistoryEntry

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
INCHES = (9.0, 5.0)

PoolArgument = Annotated[str, typer.Argument(help="The pool's name, as listed by `fleet pools`.")]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw the sizes over time as PNG into this file.")
]


class ScaleGroup(TyperGroup):
    """`fleet scale codegen 4` is short for `fleet scale set codegen 4`."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """The command to run, with its parameters."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["set", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=ScaleGroup)
scale_plan.add_to(app)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="scale", invoke_without_command=True)


@app.callback(invoke_without_command=True)
def scale(
    context: typer.Context, as_json: JsonOption = False, as_csv: CsvOption = False
) -> None:
    """Show how many workers each pool should have and has, and why; change it by hand.

    `fleet scale POOL N` sets the size of a pool, `fleet scale auto POOL` ends that.

    Example: `fleet scale codegen 4 --for 1h`
    """
    if context.invoked_subcommand is None:
        from fleet import Fleet

        found = Fleet.from_env().sizes()
        print_rows(found, SIZES, lambda size: size._asdict(), as_json, as_csv)


@app.command("set")
def set_(
    pool: PoolArgument,
    workers: Annotated[int, typer.Argument(help="How many workers, from 0 to the pool's max.")],
    for_: Annotated[
        str, typer.Option("--for", help="How long, such as 90s, 15m, 1h or 2d. Default: for good.")
    ] = "",
    why: WhyOption = "",
    by: ByOption = "",
    as_json: JsonOption = False,
) -> None:
    """Set how many workers a pool has. The scaling policy decides again after that time.

    Example: `fleet scale set codegen 4 --for 1h --why "a launch"`
    """
    from fleet import Fleet

    long = _duration(for_) if for_ else None
    Fleet.from_env().set_size(pool, workers, seconds=long, why=why, by=by)
    if as_json:
        print_json({"pool": pool, "workers": workers, "seconds": long})
        return
    until = f"for {for_}" if for_ else "until `fleet scale auto`"
    say(f"{pool} has {workers} workers {until}. Undo: `fleet scale auto {pool}`")


@app.command()
def auto(pool: PoolArgument, why: WhyOption = "", by: ByOption = "") -> None:
    """Let the scaling policy decide the size of a pool again.

    Example: `fleet scale auto codegen`
    """
    from fleet import Fleet

    if Fleet.from_env().clear_size(pool, why=why, by=by):
        say(f"the scaling policy decides the size of {pool} again")
    else:
        say(f"the size of {pool} was not set by hand; the scaling policy decides it")


@app.command()
def policy(
    pool: Annotated[
        str, typer.Argument(help="A pool, or the policy for all pools. Empty: list all.")
    ] = "",
    name: Annotated[
        str, typer.Argument(help="The policy for the pool; `configured` for the one of fleet.toml.")
    ] = "",
    why: WhyOption = "",
    by: ByOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the scaling policies, or let another one decide for a pool or for all.

    Example: `fleet scale policy codegen threshold`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    one_pool, wanted = (pool, name) if name else ("", pool)
    if wanted:
        chosen = "" if wanted == "configured" else wanted
        fleet.set_scaling_policy(chosen, pool=one_pool, why=why, by=by)
        if not as_json:
            say(f"{one_pool or 'every pool'} is scaled by {wanted} from now on")
            return
    _show_policies(fleet.scaling_policies(), fleet.scaling_policy_of(), as_json)


@app.command()
def history(
    pool: Annotated[str, typer.Argument(help="Only this pool.")] = "",
    limit: LimitOption = 50,
    plot: PlotOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show decisions that changed the size of a pool, newest first, and why.

    Example: `fleet scale history --plot sizes.png`
    """
    from fleet import Fleet

    check_plot(plot)
    found = Fleet.from_env().scaling_history(limit, pool)
    if plot is not None:
        write_plot(found, plot)
    if found or as_json or as_csv:
        print_rows(found, HISTORY, lambda entry: entry._asdict(), as_json, as_csv)
    else:
        say("no pool has changed its size yet")


def write_plot(entries: Sequence[HistoryEntry], path: Path) -> None:
    """Draw the size of each pool over time, with what waited and ran when it changed."""
    from fleet.cli.output import new_figure, save
    from fleet.text import plain_label

    drawing = new_figure(*INCHES)
    sizes, tasks = drawing.subplots(2, 1, sharex=True)
    for number, pool in enumerate(sorted({entry.pool for entry in entries})):
        of_pool = [entry for entry in reversed(entries) if entry.pool == pool]
        times = [datetime.fromtimestamp(entry.at).astimezone() for entry in of_pool]
        label, colour = plain_label(pool), f"C{number}"
        workers = [entry.workers for entry in of_pool]
        sizes.step(times, workers, where="post", label=label, color=colour)
        tasks.plot(times, [entry.queued for entry in of_pool], "o-", color=colour)
        tasks.plot(times, [entry.running for entry in of_pool], "x:", color=colour)
    sizes.set_ylabel("workers decided")
    tasks.set_ylabel("tasks: waiting (o), running (x)")
    for axes in (sizes, tasks):
        axes.grid(alpha=0.3)
    if entries:
        drawing.legend(loc="outside lower center", ncols=4)
    drawing.autofmt_xdate()
    save(drawing, path)


def _duration(given: str) -> float:
    """Seconds, from a number and a unit. Raises `InvalidRequest`."""
    from fleet.errors import InvalidRequest

    found = DURATION.fullmatch(given)
    if found is None:
        raise InvalidRequest(f"--for {given!r}: give a number and s, m, h or d, such as 90s or 1h")
    return float(found[1]) * UNITS[found[2]]


def _show_policies(
    installed: Mapping[str, ScalingPolicy], of_pool: Mapping[str, str], as_json: bool
) -> None:
    if as_json:
        described = {name: each.description for name, each in installed.items()}
        print_json({"policies": described, "pools": of_pool})
        return
    console().print(table(installed.values(), POLICIES))
    say("")
    for pool, name in of_pool.items():
        say(f"{pool}: {name}")


def _desired(size: PoolSize) -> str:
    return "-" if size.desired is None else str(size.desired)


SIZES: tuple[Column[PoolSize], ...] = (
    Column("pool", lambda size: size.pool),
    figure("desired", _desired),
    figure("ready", lambda size: str(size.ready)),
    figure("starting", lambda size: str(size.starting)),
    figure("draining", lambda size: str(size.draining)),
    figure("min", lambda size: str(size.min)),
    figure("max", lambda size: str(size.max)),
    figure("waiting", lambda size: f"{size.queued:,}"),
    figure("running", lambda size: f"{size.running:,}"),
    figure("start", lambda size: seconds(size.start_seconds)),
    Column("policy", lambda size: size.policy or "-"),
    Column("why", lambda size: "; ".join(size.reasons)),
)
POLICIES: tuple[Column[ScalingPolicy], ...] = (
    Column("policy", lambda each: each.name),
    Column("rule", lambda each: each.description),
)
HISTORY: tuple[Column[HistoryEntry], ...] = (
    Column("time", lambda entry: moment(entry.at)),
    Column("pool", lambda entry: entry.pool),
    figure("before", lambda entry: str(entry.before)),
    figure("workers", lambda entry: str(entry.workers)),
    figure("waiting", lambda entry: f"{entry.queued:,}"),
    figure("running", lambda entry: f"{entry.running:,}"),
    Column("policy", lambda entry: entry.policy),
    Column("why", lambda entry: "; ".join(entry.reasons)),
)
