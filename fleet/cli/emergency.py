"""`fleet emergency`: accept only urgent tasks, and those of named tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import ByOption, JsonOption, WhyOption, moment, print_json, say

if TYPE_CHECKING:
    from fleet.policy.rules import Emergency

app = typer.Typer(
    no_args_is_help=True,
    help="Accept only urgent tasks while something is wrong."
    "\n\nExample: `fleet emergency show`",
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="emergency")


@app.command()
def on(
    why: WhyOption,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="TENANT", help="Accept this tenant's tasks too. May be repeated."),
    ] = None,
    by: ByOption = "",
) -> None:
    """Accept only tasks of priority 0 and tasks of allowed tenants, from the next task on.

    Tasks already submitted continue.

    Example: `fleet emergency on --why "a loop burns money" --allow acme --allow other`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    fleet.set_emergency(allow or (), why=why, by=by)
    say(describe_emergency(fleet.emergency()))


@app.command()
def off(why: WhyOption, by: ByOption = "") -> None:
    """Accept all tasks again.

    Example: `fleet emergency off --why "the loop is fixed"`
    """
    from fleet import Fleet

    ended = Fleet.from_env().end_emergency(why=why, by=by)
    say("all tasks are accepted again" if ended else "there was no emergency")


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
        say(describe_emergency(found))


def describe_emergency(emergency: Emergency | None) -> str:
    """A sentence for people: which tasks are accepted, since when, by whom and why."""
    if emergency is None:
        return "no emergency: all tasks are accepted"
    others = f" and tasks of {', '.join(sorted(emergency.tenants))}" if emergency.tenants else ""
    since = f"since {moment(emergency.at)}, by {emergency.by}: {emergency.why}"
    return f"emergency: only tasks of priority 0{others} are accepted\n{since}"


def emergency_json(emergency: Emergency | None) -> dict[str, Any]:
    """The emergency for programs. `at` is in seconds since 1970."""
    if emergency is None:
        return {"on": False}
    return {"on": True, **emergency._asdict(), "tenants": sorted(emergency.tenants)}
