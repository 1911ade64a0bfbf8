"""`fleet spend`: what was spent, on what, where it leads, and what could be saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.output import JsonOption, console, print_json

Dimension = Literal["model", "tenant", "agent_type", "request_type", "pool", "provider"]
"""Those of `fleet.ledger.rules.spend`, whose import takes long."""

if TYPE_CHECKING:
    from fleet.ledger.spend import SpendReport


def add_to(app: typer.Typer) -> None:
    """Give the command line this command."""
    app.command()(spend)


def spend(
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="The first UTC day: 2026-11-01.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="The last UTC day; else today.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="So many days up to the last one; else 30.")
    ] = None,
    by: Annotated[
        Dimension | None,
        typer.Option(help="Show the shares of these only; else model, tenant and agent type."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Look at this tenant's spend only.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the days by model and the projection into this PNG."),
    ] = None,
    last_report: Annotated[
        bool, typer.Option("--last-report", help="Show the daily report that beat made last.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the spend of a period: total, trend, shares, suggestions, and the month's projection.

    The figures are those of the ledger's roll-ups, which are brought up to date first. The trend
    leaves a day that has not ended out. Amounts in JSON are nano-dollars. Exit status 2 for days
    that are none.

    Example: `fleet spend --days 90 --by tenant --plot spend.png`

    Example: `fleet spend --from 2026-11-01 --to 2026-11-15 --tenant acme --json`
    """
    from fleet.cli.plots import check_plot
    from fleet.ledger.daily_spend import last_report as kept_report
    from fleet.ledger.period import period_of, today_of
    from fleet.ledger.spend import recorded_rows
    from fleet.settings import load_settings
    from fleet.tasks.connection import open_connection

    if last_report:
        _alone("--last-report", {"--from": first, "--to": last, "--days": days, "--tenant": tenant})
    check_plot(plot)
    fleet = open_connection(load_settings())
    if last_report:
        show_report(kept_report(fleet.ledger), by, plot, as_json)
    else:
        from fleet.ledger.spend import spend_report

        today, now = today_of(fleet.ledger.entries)
        asked = period_of(today, first, last, days)
        config, policy = fleet.settings.config, fleet.policy.store.read()
        rows = recorded_rows(fleet.ledger)
        report = spend_report(config, policy, rows, asked, tenant, made_at=now)
        show_report(report, by, plot, as_json)


def show_report(
    report: SpendReport | None, by: Dimension | None, plot: Path | None, as_json: bool
) -> None:
    """Draw a report where that is wanted, then print it. None: beat has made none yet."""
    from fleet.cli.spend_plot import write_plot
    from fleet.cli.spend_view import report_view
    from fleet.errors import InvalidRequest
    from fleet.ledger.daily_spend import report_json

    if report is None:
        raise InvalidRequest("beat has made no report yet: it does at 2 o'clock UTC each day")
    if plot:
        write_plot(report, plot)
    if as_json:
        print_json(report_json(report))
    else:
        console().print(report_view(report, by))


def _alone(option: str, others: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` where an option comes with others that mean nothing beside it."""
    from fleet.errors import InvalidRequest

    given = [name for name, value in others.items() if value]
    if given:
        raise InvalidRequest(f"{option} goes without {', '.join(given)}: leave one of them out")
