"""The command `fleet`: its sub-commands, and what an error looks like.

Commands import what they need when they run, so that `fleet --help` stays quick.
"""

from __future__ import annotations

import sys

import typer

from fleet.cli import (
    audit,
    budget,
    configuration,
    crew,
    dead,
    demo,
    emergency,
    ledger,
    limits,
    models,
    route,
    service,
    simulate,
    spend,
    status,
    up,
    work,
)
from fleet.cli.output import complain
from fleet.errors import FleetError, InvalidConfig, InvalidRequest, NotAllowed, TaskNotFound

USAGE_ERRORS = (InvalidRequest, InvalidConfig, NotAllowed, TaskNotFound)
EXIT_FAILURE = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="fleet",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Runs AI agents as a fleet of Celery workers. Begin with `fleet demo` or `fleet up`.",
)

for module in (
    *(demo, up, status, work, crew, route, models),
    *(dead, limits, budget, emergency, audit, ledger, spend, simulate),
):
    module.add_to(app)
app.add_typer(configuration.app, name="config")
app.add_typer(service.app, name="service")


def main() -> None:
    """Run the command; exit status 2 for bad input, 1 for a failure, each with a sentence."""
    try:
        app(prog_name="fleet")
    except FleetError as error:
        complain(str(error), type(error).__name__)
        sys.exit(EXIT_USAGE if isinstance(error, USAGE_ERRORS) else EXIT_FAILURE)
