"""How values are written for people, where output goes, and options that commands share."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.errors import InvalidRequest, extra_missing
from fleet.money import dollars as dollars
from fleet.text import plain_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RequestTypeOption = Annotated[
    str, typer.Option("--request-type", help="Only tasks of this request type.")
]
TenantOption = Annotated[str, typer.Option("--tenant", help="Only tasks of this tenant.")]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, shown by `fleet audit`.")]
ByOption = Annotated[
    str, typer.Option("--by", help="Who makes the change. Default: the operating system's user.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=10_000, help="Show at most this many.")
]

SHORT_ID = 8
DOTS_PER_INCH = 110
TROUBLESHOOTING = "docs/troubleshooting.md"
STYLES = {
    "queued": "yellow",
    "delayed": "blue",
    "parked": "magenta",
    "running": "cyan",
    "succeeded": "green",
    "unverified": "bold yellow",
    "failed": "bold red",
    "cancelled": "dim",
    "idle": "green",
    "busy": "cyan",
    "maintenance": "yellow",
}


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], object]]:
    """A progress bar on the error stream, if that is a terminal.

    Call the function it yields with the number of items done so far.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    what_of = TextColumn("{task.description}", markup=False)
    columns = (what_of, BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=error_console(), transient=True) as bars:
        shown = bars.add_task(what, total=total)
        yield lambda done: bars.update(shown, completed=done)


def console() -> Console:
    """Standard output. If it is no terminal, lines are 160 characters wide and have no colours."""
    from fleet.cli.plain_console import PlainConsole

    if sys.stdout.isatty():
        return PlainConsole()
    return PlainConsole(width=160, force_terminal=False, no_color=True)


def error_console() -> Console:
    """Standard error, for progress bars and errors."""
    from fleet.cli.plain_console import PlainConsole

    return PlainConsole(stderr=True)


def say(message: str, *, err: bool = False) -> None:
    """Print a sentence on standard output or standard error, without control characters."""
    typer.echo(plain_lines(message), err=err)


def complain(message: str, kind: str) -> None:
    """Print an error on standard error, and the section of the docs that explains its class."""
    from rich.text import Text

    text = Text("error: ", style="bold red") + Text(plain_lines(message), style="red")
    error_console().print(text, soft_wrap=True)
    error_console().print(Text(more_about(kind), style="dim"), soft_wrap=True)


def more_about(kind: str) -> str:
    """The section of the docs about a class of errors, such as `OverBudget`, or about a part of
    `fleet status`, such as `status beat`."""
    words = re.findall(r"[A-Z]?[a-z]+", kind)
    return f"more: {TROUBLESHOOTING}#{'-'.join(words).lower()}"


def highlighted(text: str, language: str) -> Text:
    """Code in colours. It is a `Text`, because a `Syntax` pads its lines with spaces."""
    from rich.syntax import Syntax

    coloured = Syntax("", language, background_color="default").highlight(text.strip("\n"))
    coloured.rstrip()
    return coloured


def own_command() -> str:
    """How to type the command `fleet` here: with its folder, unless it is on the PATH."""
    own = Path(sys.executable).parent / "fleet"
    if shutil.which("fleet") == str(own):
        return "fleet"
    if not own.exists():
        return f"{sys.executable} -m fleet"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def tasks_of(request_type: str, tenant: str) -> str:
    """Name the tasks of a request type and a tenant, such as `code_generation tasks of acme`.
    Empty names stand for all."""
    if not (request_type or tenant):
        return "all tasks"
    what = f"{request_type} tasks" if request_type else "tasks"
    return f"{what} of {tenant}" if tenant else what


def seconds(value: float | None) -> str:
    """A duration such as `0.42 s`. A dash stands for None."""
    return "-" if value is None else f"{value:.2f} s"


def moment(epoch: float | None) -> str:
    """Local date and time, from seconds since 1970. A dash stands for None."""
    if epoch is None:
        return "-"
    return datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def state(name: str) -> Text:
    """The state of a task or the status of an agent, coloured."""
    from rich.text import Text

    return Text(name, style=STYLES.get(name, ""))


def check_plot(path: Path | None) -> None:
    """Check that a plot can be written to this path, before the slow work begins.

    Raises `InvalidRequest` if the folder does not exist, `InvalidConfig` without matplotlib.
    """
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise InvalidRequest(f"--plot {path}: its folder does not exist; create it or name another")
    _figure_class()


def new_figure(wide: float, high: float) -> Figure:
    """An empty matplotlib figure, size in inches. Raises `InvalidConfig` without matplotlib."""
    return _figure_class()(figsize=(wide, high), dpi=DOTS_PER_INCH, layout="constrained")


def _figure_class() -> type[Figure]:
    # Imported only for a plot. Unlike pyplot, the Figure class keeps no global state.
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise extra_missing("a plot", "plots") from error
    return Figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. Raises `InvalidRequest` if the file cannot be written."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise InvalidRequest(f"--plot {path}: {error.strerror}; name a file to write") from error
