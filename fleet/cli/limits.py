"""`fleet limits`: what may be used in any 60 minutes, and how many tasks there may be at once."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.controls import (
    ByOption,
    ScopeArgument,
    WhyOption,
    amounts,
    limit_json,
    limits_table,
    tell_cleared,
    tell_limits,
)
from fleet.cli.output import JsonOption, console, print_json, say

app = typer.Typer(
    no_args_is_help=True,
    help="Rate limits and concurrent tasks, changed while the fleet runs. "
    "Example: `fleet limits show`",
)

WINDOWS = ("rolling", "now")


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="limits")


@app.command("set")
def set_(
    scope: ScopeArgument,
    why: WhyOption,
    requests: Annotated[
        str | None, typer.Option(help="Model calls in any 60 minutes, or none.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Tokens of input and output in any 60 minutes, or none.")
    ] = None,
    dollars: Annotated[
        str | None, typer.Option(help="US dollars in any 60 minutes, or none.")
    ] = None,
    concurrent: Annotated[
        str | None, typer.Option(help="Tasks at once, waiting ones among them, or none.")
    ] = None,
    by: ByOption = "",
) -> None:
    """Set limits of a scope for the next task of every process, all of them or none.

    They go before the configuration; none lifts what is configured.

    Example: `fleet limits set tenant:acme --requests 1000 --concurrent 10 --why "a pilot"`
    """
    from fleet import Fleet

    wanted = amounts(
        {
            "requests": ("--requests", requests),
            "tokens": ("--tokens", tokens),
            "usd": ("--dollars", dollars),
            "concurrent_tasks": ("--concurrent", concurrent),
        }
    )
    fleet = Fleet.from_env()
    fleet.set_limits(scope, wanted, why=why, by=by)
    tell_limits(fleet, scope, wanted)


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the rate limits in force, how much of each is used, and where it was said.

    Example: `fleet limits show --json`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    limits = [each for each in fleet.limits() if each.key.window in WINDOWS]
    found = fleet.limit_usage(limits)
    if as_json:
        print_json([limit_json(limit, found) for limit in limits])
    elif limits:
        console().print(limits_table(limits, found))
    else:
        say("no rate limits are set; `fleet budget show` has the budgets")


@app.command()
def clear(
    scope: ScopeArgument,
    why: WhyOption,
    requests: Annotated[bool, typer.Option("--requests", help="Only that of model calls.")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Only that of tokens.")] = False,
    dollars: Annotated[bool, typer.Option("--dollars", help="Only that of dollars.")] = False,
    concurrent: Annotated[
        bool, typer.Option("--concurrent", help="Only that of tasks at once.")
    ] = False,
    by: ByOption = "",
) -> None:
    """Go back to what the configuration says, for all of a scope's rate limits or those named.

    Example: `fleet limits clear tenant:acme --requests --why "the pilot is over"`
    """
    from fleet import Fleet

    named = {
        "requests": requests,
        "tokens": tokens,
        "usd": dollars,
        "concurrent_tasks": concurrent,
    }
    chosen = [name for name, wanted in named.items() if wanted] or list(named)
    tell_cleared(scope, Fleet.from_env().clear_limits(scope, chosen, why=why, by=by))
