"""`fleet status`: what answers and what does not."""

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
"""Parts that are shown only where there is something to say."""


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(status)


def status(as_json: JsonOption = False) -> None:
    """Show whether the broker, the model, each pool, beat and Flower answer, and in which isolation
    generated code runs.

    Exit status 0 when all do, 1 otherwise.

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
        for kind in sorted({part.name.split()[0] for part in parts if _complains(part)}):
            console().print(more_about(f"status {kind}"))
    raise typer.Exit(0 if healthy else 1)


def look(settings: Settings) -> list[Part]:
    """Ask every part. The pools and beat are known to the broker alone."""
    from fleet.operations import health

    broker = health.broker_part(settings)
    parts = [broker, health.model_part(settings), *health.sandbox_parts(settings)]
    if broker.ok:
        parts += _told_by_the_broker(settings)
    flower = flower_url(settings)
    return [*parts, health.flower_part(flower)] if flower else parts


def _told_by_the_broker(settings: Settings) -> list[Part]:
    from fleet.operations import health
    from fleet.tasks.connection import open_connection

    connection = open_connection(settings)
    counts = connection.routing.pools.counts(list(settings.config.pools))
    pools = health.pool_parts(settings, connection.routing.agents.agents(), counts)
    beat = health.beat_part(connection)
    parked = health.parked_parts(connection.tasks.on_hold.count())
    aside = connection.tasks.set_aside
    return [*pools, beat, *parked, *health.malformed_parts(aside.count(), aside.ever())]


def flower_url(settings: Settings) -> str | None:
    """Where Flower is: as `fleet up` wrote, else on the configured port; None if unknown."""
    from fleet.local.ports import LOOPBACK
    from fleet.local.run_file import running

    run = running(settings.environment.data_dir)
    if run:
        return run.flower_url
    port = settings.environment.flower_port
    return f"http://{LOOPBACK}:{port}" if port else None


def _complains(part: Part) -> bool:
    return not part.ok or part.name in NOTES


def _mark(part: Part) -> Text:
    from rich.text import Text

    return Text("ok", "green") if part.ok else Text("not ok", "bold red")


PARTS: tuple[Column[Part], ...] = (
    Column("part", lambda part: part.name),
    Column("", _mark),
    Column("where", lambda part: part.where),
    Column("what", lambda part: part.detail),
)
