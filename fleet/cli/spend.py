"""`fleet spend`: a report on the spend of a period, or the last daily report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.connect import connect
from fleet.cli.output import JsonOption, check_plot, console, print_json

Dimension = Literal["model", "tenant", "agent_type", "request_type", "pool", "provider"]
"""The values of `Dimension` in `fleet.ledger.rules.spend`, whose import is slow."""

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
        str | None, typer.Option("--to", metavar="DAY", help="The last UTC day. Default: today.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="The number of days up to the last. Default: 30.")
    ] = None,
    by: Annotated[
        Dimension | None,
        typer.Option(help="Show only these shares. Default: by model, tenant and agent type."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Show only this tenant's spend.")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the days by model, and the projection, into this PNG."),
    ] = None,
    last_report: Annotated[
        bool, typer.Option("--last-report", help="Show the last daily report that beat made.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the spend of a period: total, trend, shares, suggestions, and the month's projection.

    The figures come from the ledger's roll-ups, which are updated first. The trend ignores a day
    that has not ended. Amounts in JSON are nano-dollars. The exit status is 2 for invalid days.

    Example: `fleet spend --days 90 --by tenant --plot spend.png`

    Example: `fleet spend --from 2026-11-01 --to 2026-11-15 --tenant acme --json`
    """
    if last_report:
        _check_alone({"--from": first, "--to": last, "--days": days, "--tenant": tenant})
    check_plot(plot)
    report = _last_report() if last_report else _new_report(first, last, days, tenant)
    show_report(report, by, plot, as_json)


def _last_report() -> SpendReport | None:
    from fleet.ledger.daily_spend import last_report

    return last_report(connect("read", "fleet spend --last-report").ledger)


def _new_report(
    first: str | None, last: str | None, days: int | None, tenant: str | None
) -> SpendReport:
    from fleet import Fleet

    return Fleet.from_env().spend(first, last, days=days, tenant=tenant)


def show_report(
    report: SpendReport | None, by: Dimension | None, plot: Path | None, as_json: bool
) -> None:
    """Draw a report into `plot`, if given, and print it. None: beat has made no report yet."""
    from fleet.cli.spend_view import report_view, write_plot
    from fleet.errors import InvalidRequest
    from fleet.ledger.daily_spend import report_json

    if report is None:
        raise InvalidRequest("beat has made no report yet; it makes one each day at 02:00 UTC")
    if plot:
        write_plot(report, plot)
    if as_json:
        print_json(report_json(report))
    else:
        console().print(report_view(report, by))


def _check_alone(others: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` if `--last-report` comes with an option that it ignores."""
    from fleet.errors import InvalidRequest

    given = [name for name, value in others.items() if value]
    if given:
        raise InvalidRequest(f"--last-report cannot be combined with {', '.join(given)}")
