"""How values are written for people, and where output goes."""

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

from fleet.money import dollars as dollars
from fleet.text.plain_text import plain_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

SHORT_ID = 8
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
    """A bar on the error stream, where that is a terminal; it is told how many there were."""
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
    """Where a command's answer goes. Off a terminal lines are wide and plain."""
    from fleet.cli.plain_console import PlainConsole

    if sys.stdout.isatty():
        return PlainConsole()
    return PlainConsole(width=160, force_terminal=False, no_color=True)


def error_console() -> Console:
    """Where bars and errors go: the error stream."""
    from fleet.cli.plain_console import PlainConsole

    return PlainConsole(stderr=True)


def say(message: str, *, err: bool = False) -> None:
    """A sentence on the output, or on the error stream. Names in it may be other people's."""
    typer.echo(plain_lines(message), err=err)


def complain(message: str, kind: str) -> None:
    """One error for people, on the error stream, and where its class is explained."""
    from rich.text import Text

    text = Text("error: ", style="bold red") + Text(plain_lines(message), style="red")
    error_console().print(text, soft_wrap=True)
    error_console().print(Text(more_about(kind), style="dim"), soft_wrap=True)


def more_about(kind: str) -> str:
    """Which section of the documentation explains a class of errors, such as `OverBudget`, or a
    part of `fleet status`, such as `status beat`."""
    words = re.findall(r"[A-Z]?[a-z]+", kind)
    return f"more: {TROUBLESHOOTING}#{'-'.join(words).lower()}"


def highlighted(text: str, language: str) -> Text:
    """Code in colours. As a text, since a `Syntax` fills its lines with spaces to the margin."""
    from rich.syntax import Syntax

    coloured = Syntax("", language, background_color="default").highlight(text.strip("\n"))
    coloured.rstrip()
    return coloured


def own_command() -> str:
    """How to type the command `fleet` here: where it is not on the PATH, with its folder."""
    own = Path(sys.executable).parent / "fleet"
    if shutil.which("fleet") == str(own):
        return "fleet"
    if not own.exists():
        return f"{sys.executable} -m fleet"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def print_json(value: Any) -> None:
    """A value as JSON on the output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def tasks_of(request_type: str, tenant: str) -> str:
    """The tasks of a request type, a tenant, both, or all where both are empty, in a sentence."""
    of = [f"{request_type} tasks" if request_type else "tasks", f"of {tenant}" if tenant else ""]
    return " ".join(part for part in of if part) if any((request_type, tenant)) else "all tasks"


def seconds(value: float | None) -> str:
    """A duration, such as `0.42 s`; a dash where there is none yet."""
    return "-" if value is None else f"{value:.2f} s"


def moment(epoch: float | None) -> str:
    """A time of day here, from seconds since 1970; a dash where there is none yet."""
    if epoch is None:
        return "-"
    return datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def state(name: str) -> Text:
    """The state of a task or the status of an agent, in its colour."""
    from rich.text import Text

    return Text(name, style=STYLES.get(name, ""))
