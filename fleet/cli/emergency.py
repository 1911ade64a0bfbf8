"""`fleet emergency`: only urgent tasks pass, and those of tenants that are named."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.control_options import ByOption, WhyOption
from fleet.cli.output import JsonOption, print_json, say

app = typer.Typer(
    no_args_is_help=True,
    help="Let only urgent tasks pass, and all again. Example: `fleet emergency show`",
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="emergency")


@app.command()
def on(
    why: WhyOption,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="TENANT", help="A tenant whose tasks pass; may be given again."),
    ] = None,
    by: ByOption = "",
) -> None:
    """Let only tasks of priority 0 pass, and those of allowed tenants, from the next one on.

    What is submitted already goes on.

    Example: `fleet emergency on --why "a loop burns money" --allow acme --allow other`
    """
    from fleet import Fleet
    from fleet.cli.control_tables import emergency_said

    fleet = Fleet.from_env()
    fleet.set_emergency(allow or (), why=why, by=by)
    say(emergency_said(fleet.emergency()))


@app.command()
def off(why: WhyOption, by: ByOption = "") -> None:
    """Let all tasks pass again.

    Example: `fleet emergency off --why "the loop is mended"`
    """
    from fleet import Fleet

    ended = Fleet.from_env().end_emergency(why=why, by=by)
    say("all tasks pass again" if ended else "there was no emergency: all tasks pass")


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show whether there is an emergency, since when, by whom and why.

    Example: `fleet emergency show --json`
    """
    from fleet import Fleet
    from fleet.cli.control_tables import emergency_json, emergency_said

    found = Fleet.from_env().emergency()
    if as_json:
        print_json(emergency_json(found))
    else:
        say(emergency_said(found))
