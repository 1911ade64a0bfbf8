"""`fleet config`: check or show the settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from fleet.cli.output import JsonOption, print_json, say

if TYPE_CHECKING:
    from fleet.models.rules.catalogue import Model
    from fleet.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="Check or show the configuration."
    "\n\nExample: `fleet config check`",
)


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="config")


@app.command()
def check() -> None:
    """Check fleet.toml and the FLEET_* variables, and report the first error.

    Example: `FLEET_CONFIG=staging.toml fleet config check`
    """
    from fleet.agent import installed_agents
    from fleet.models.catalogue import catalogue
    from fleet.models.keys import ProviderKeys
    from fleet.routing.routes import check_strategies
    from fleet.routing.strategies import installed_strategies
    from fleet.scaling.actuators import check_actuator
    from fleet.scaling.policies import check_policies, installed_policies
    from fleet.settings import load_settings
    from fleet.tasks.submission.model_planning import check_model_tasks

    settings = load_settings()
    config = settings.config
    check_strategies(settings, installed_strategies())
    check_policies(settings, installed_policies())
    check_actuator(settings)
    check_model_tasks(settings, installed_agents())
    models = catalogue(settings, ProviderKeys(settings.config.providers, os.environ))
    say(
        f"{settings.source}: valid ({len(config.pools)} pools, {len(config.request_types)} request "
        f"types, {models_counted(models, config.models.catalogue)})"
    )


def models_counted(models: Sequence[Model], kind: str) -> str:
    """The number of models in the catalogue, and of those that can be used here."""
    here = sum(not model.absent for model in models)
    available = "" if here == len(models) else f", {here} of them usable here"
    return f"{len(models)} models in the {kind} catalogue{available}"


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the settings in force as a fleet.toml, with defaults. Passwords are masked.

    Example: `fleet config show --json`
    """
    from fleet.settings import load_settings

    settings = load_settings()
    environment, config = _environment(settings), settings.config.model_dump(mode="json")
    if as_json:
        print_json({"source": settings.source, "environment": environment, **config})
        return
    variables = "\n".join(f"# {name}={value}" for name, value in environment.items())
    say(f"# {settings.source}, and the environment:\n{variables}\n\n{to_toml(config)}")


def _environment(settings: Settings) -> dict[str, Any]:
    """The variables in force, without passwords in addresses and with stars for secrets."""
    from fleet.settings.addresses import masked

    shown = settings.environment.model_dump(mode="json", exclude_none=True)
    if settings.environment.broker_url:
        shown["broker_url"] = masked(settings.broker_url)
    if settings.environment.model_url:
        shown["model_url"] = masked(settings.environment.model_url)
    return {f"FLEET_{name.upper()}": value for name, value in shown.items()}


def to_toml(tables: dict[str, Any]) -> str:
    """Nested tables as TOML. Keys with None are left out, because TOML has no null."""
    import tomli_w

    return tomli_w.dumps(_without_nulls(tables))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
