"""`fleet emergency`: only urgent tasks pass, and those of tenants that are named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.controls import ByOption, WhyOption
from fleet.cli.output import JsonOption, moment, print_json, say

if TYPE_CHECKING:
    from fleet.policy.rules import Emergency

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

    found = Fleet.from_env().emergency()
    if as_json:
        print_json(emergency_json(found))
    else:
        say(emergency_said(found))


def emergency_said(emergency: Emergency | None) -> str:
    """The emergency mode, in words."""
    if emergency is None:
        return "no emergency: all tasks pass"
    others = f", and those of {', '.join(sorted(emergency.tenants))}" if emergency.tenants else ""
    since = f"since {moment(emergency.at)}, by {emergency.by}: {emergency.why}"
    return f"emergency: only tasks of priority 0 pass{others}\n{since}"


def emergency_json(emergency: Emergency | None) -> dict[str, Any]:
    """The emergency mode for programs; `at` is in seconds since 1970."""
    if emergency is None:
        return {"on": False}
    return {"on": True, **emergency._asdict(), "tenants": sorted(emergency.tenants)}
