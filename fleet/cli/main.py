"""The command `fleet`: its sub-commands, and what an error looks like.

The module of a command is imported when the command is used, and modules of commands import what
they need when they run: so `fleet --help` stays quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fleet.errors import FleetError, InvalidConfig, InvalidRequest, NotAllowed, TaskNotFound

if TYPE_CHECKING:
    from typer._click import Context

USAGE_ERRORS = (InvalidRequest, InvalidConfig, NotAllowed, TaskNotFound)
EXIT_FAILURE = 1
EXIT_USAGE = 2

MODULES = {
    "demo": ("demo",),
    "up": ("up", "down"),
    "status": ("status",),
    "work": ("submit", "tasks", "task", "explain", "cancel", "rate"),
    "pools": ("pools", "agents"),
    "route": ("route",),
    "models": ("models",),
    "dead": ("dead",),
    "limits": ("limits",),
    "budget": ("budget",),
    "emergency": ("emergency",),
    "audit": ("audit",),
    "ledger": ("ledger",),
    "spend": ("spend",),
    "simulate": ("simulate",),
    "configuration": ("config",),
    "service": ("service",),
}
"""The modules of `fleet.cli` and their commands, in the order of the help."""


class LazyGroup(TyperGroup):
    """Commands whose modules are imported when they are asked for.

    The list of commands in the help takes their docstrings alone: to read the parameters of all
    commands takes half a second.
    """

    def list_commands(self, ctx: Context) -> list[str]:
        """Their names, in the order of the help."""
        return [name for names in MODULES.values() for name in names]

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """The command that is to run, with its parameters."""
        if (part := _part(args[0])) is not None:
            self.commands.update(typer.main.get_group(part).commands)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Context, cmd_name: str) -> Any:
        """The command of a name, with its help alone until it is to run. None where there is
        none."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        part = _part(cmd_name)
        return TyperCommand(cmd_name, help=_help(part, cmd_name)) if part is not None else None


def _part(name: str) -> typer.Typer | None:
    """The commands of the module that has a command of this name."""
    for module, names in MODULES.items():
        if name in names:
            part = typer.Typer(rich_markup_mode="markdown")
            import_module(f"fleet.cli.{module}").add_to(part)
            return part
    return None


def _help(part: typer.Typer, name: str) -> str:
    for group in part.registered_groups:
        if group.name == name and group.typer_instance is not None:
            return str(group.typer_instance.info.help)
    callbacks = (command.callback for command in part.registered_commands)
    return next(getdoc(each) or "" for each in callbacks if each and each.__name__ == name)


app = typer.Typer(
    name="fleet",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Runs AI agents as a fleet of Celery workers. Begin with `fleet demo` or `fleet up`.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fleet {version('fleet')}")
        raise typer.Exit


@app.callback()
def fleet(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of `fleet` itself."""


def main() -> None:
    """Run the command; exit status 2 for bad input, 1 for a failure, each with a sentence."""
    try:
        app(prog_name="fleet")
    except FleetError as error:
        from fleet.cli.output import complain

        complain(str(error), type(error).__name__)
        sys.exit(EXIT_USAGE if isinstance(error, USAGE_ERRORS) else EXIT_FAILURE)
