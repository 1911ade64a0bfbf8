"""`fleet status`: the health of each part of the fleet."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from fleet.cli.output import JsonOption, console, more_about, print_json
from fleet.cli.rows import Column, table

if TYPE_CHECKING:
    from rich.text import Text

    from fleet.operations.health import Part
    from fleet.settings import Settings

NOTES = ("parked", "malformed")
"""Parts that are shown only if there is something to report."""


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(status)


def status(as_json: JsonOption = False) -> None:
    """Show whether broker, model, pools, beat, Flower and ops endpoint are healthy.

    The sandbox line says in which isolation generated code runs. The exit status is 0 if all parts
    are healthy, else 1.

    Example: `fleet status --json`
    """
    from fleet.settings import load_settings

    parts = look(load_settings())
    healthy = all(part.ok for part in parts)
    if as_json:
        found = {part.name: part for part in parts}
        isolation = found["sandbox"].where if "sandbox" in found else None
        shown = [asdict(part) for part in parts]
        print_json({"healthy": healthy, "isolation": isolation, "parts": shown})
    else:
        console().print(table(parts, PARTS))
        for kind in sorted({part.name.split()[0] for part in parts if _has_hint(part)}):
            console().print(more_about(f"status {kind}"))
    raise typer.Exit(0 if healthy else 1)


def look(settings: Settings) -> list[Part]:
    """Check every part. The state of pools and beat is in the broker, so it must answer."""
    import os

    from fleet.models.keys import ProviderKeys
    from fleet.operations import health

    broker = health.broker_part(settings)
    keys = ProviderKeys(settings.config.providers, os.environ)
    parts = [broker, health.model_part(settings, keys), *health.sandbox_parts(settings)]
    if broker.ok:
        parts += _parts_in_broker(settings)
    if flower := flower_url(settings):
        parts.append(health.flower_part(flower))
    if ops := _ops_url(settings):
        parts.append(health.ops_part(ops))
    return parts


def _parts_in_broker(settings: Settings) -> list[Part]:
    from fleet.access.access import Guard
    from fleet.access.rules import Need
    from fleet.errors import NotAllowed
    from fleet.operations import health
    from fleet.scaling.administration import pool_sizes
    from fleet.tasks.connection import open_connection

    connection = open_connection(settings)
    try:
        guard = Guard(connection.access, settings.environment.token)
        guard.check(Need("read", whole_fleet=True), "the state of pools and beat")
    except NotAllowed as refused:
        return [health.access_part(settings, str(refused))]
    counts = connection.routing.pools.counts(list(settings.config.pools))
    sizes = pool_sizes(connection)
    pools = health.pool_parts(connection.routing.agents.agents(), counts, sizes)
    beat = health.beat_part(connection)
    on_hold = health.on_hold_parts(connection.tasks.on_hold.count())
    aside = connection.tasks.set_aside
    access = health.access_part(settings)
    return [access, *pools, beat, *on_hold, *health.malformed_parts(aside.count(), aside.ever())]


def flower_url(settings: Settings) -> str | None:
    """The address of Flower: from the run file, else on the configured port. None if unknown."""
    from fleet.local.ports import LOOPBACK
    from fleet.local.run_file import running

    run = running(settings.environment.data_dir)
    if run:
        return run.flower_url
    port = settings.environment.flower_port
    return f"http://{LOOPBACK}:{port}" if port else None


def _ops_url(settings: Settings) -> str | None:
    """The address of the ops endpoint: from the run file, else on the configured port."""
    from fleet.local.run_file import running

    run = running(settings.environment.data_dir)
    if run:
        return run.ops_url
    host, port = settings.environment.ops_host, settings.environment.ops_port
    return f"http://{host}:{port}" if port else None


def _has_hint(part: Part) -> bool:
    return not part.ok or part.name in NOTES


def _state(part: Part) -> Text:
    from rich.text import Text

    return Text("ok", "green") if part.ok else Text("not ok", "bold red")


PARTS: tuple[Column[Part], ...] = (
    Column("part", lambda part: part.name),
    Column("state", _state),
    Column("where", lambda part: part.where),
    Column("detail", lambda part: part.detail),
)
