"""`fleet audit`: who changed routes, limits and controls, when and why."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet.cli.output import JsonOption, console, print_json, say


def add_to(parent: typer.Typer) -> None:
    """Give the command line this command."""
    parent.command()(audit)


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of them.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest changes of routes, limits and controls first. Some 10,000 are kept.

    Example: `fleet audit --limit 50 --json`
    """
    from fleet import Fleet
    from fleet.cli.control_tables import change_json, changes_table

    changes = Fleet.from_env().audit(limit)
    if as_json:
        print_json([change_json(change) for change in changes])
    elif changes:
        console().print(changes_table(changes))
    else:
        say("nothing was changed yet")
