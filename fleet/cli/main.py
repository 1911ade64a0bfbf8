"""The command `fleet`: its sub-commands, and how errors are shown.

The module of a command is imported when the command is used. A command imports what it needs when
it runs. This keeps `fleet --help` fast.
"""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fleet.errors import (
    FleetError,
    InvalidConfig,
    InvalidRequest,
    NotAllowed,
    SecretNotFound,
    TaskNotFound,
)

if TYPE_CHECKING:
    from typer._click import Context

USAGE_ERRORS = (InvalidRequest, InvalidConfig, NotAllowed, SecretNotFound, TaskNotFound)
EXIT_FAILURE = 1
EXIT_USAGE = 2

MODULES = {
    "demo": ("demo",),
    "up": ("up", "down"),
    "status": ("status",),
    "work": ("submit", "tasks", "task", "explain", "cancel", "rate"),
    "pools": ("pools", "agents"),
    "scale": ("scale",),
    "route": ("route",),
    "models": ("models",),
    "dead": ("dead",),
    "limits": ("limits",),
    "budget": ("budget",),
    "emergency": ("emergency",),
    "secrets": ("secrets",),
    "audit": ("audit",),
    "access": ("access",),
    "ledger": ("ledger",),
    "spend": ("spend",),
    "simulate": ("simulate",),
    "deploy": ("deploy",),
    "redis": ("redis",),
    "configuration": ("config",),
    "service": ("service",),
}
"""The modules of `fleet.cli` and their commands, in help order."""


class LazyGroup(TyperGroup):
    """A group that imports the module of a command on first use.

    The list of commands in the help reads the docstrings only. Reading the parameters of all
    commands would take half a second.
    """

    def list_commands(self, ctx: Context) -> list[str]:
        """The command names in help order."""
        return [name for names in MODULES.values() for name in names]

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        """The command to run, with its parameters."""
        if (part := _part(args[0])) is not None:
            self.commands.update(typer.main.get_group(part).commands)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Context, cmd_name: str) -> Any:
        """The command with this name, or None. It has only its help text until
        `resolve_command` loads its parameters."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        part = _part(cmd_name)
        return TyperCommand(cmd_name, help=_help(part, cmd_name)) if part is not None else None


def _part(name: str) -> typer.Typer | None:
    """The commands of the module that defines this command."""
    for module, names in MODULES.items():
        if name in names:
            part = typer.Typer(rich_markup_mode="markdown")
            import_module(f"fleet.cli.{module}").add_to(part)
            return part
    return None


def _help(part: typer.Typer, name: str) -> str:
    for group in part.registered_groups:
        if group.name == name and (instance := group.typer_instance) is not None:
            run = instance.registered_callback
            return str(instance.info.help or (getdoc(run.callback) if run else ""))
    callbacks = (command.callback for command in part.registered_commands)
    return next(getdoc(each) or "" for each in callbacks if each and each.__name__ == name)


app = typer.Typer(
    name="fleet",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run AI agents as a fleet of Celery workers. Start with `fleet demo` or `fleet up`.",
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
    """Options of the command `fleet`."""


def main() -> None:
    """Run the command. On an error, print one sentence and exit: status 2 for bad input, else 1."""
    try:
        app(prog_name="fleet")
    except FleetError as error:
        from fleet.cli.output import complain

        complain(str(error), type(error).__name__)
        sys.exit(EXIT_USAGE if isinstance(error, USAGE_ERRORS) else EXIT_FAILURE)
