"""`fleet budget alerts`: which budgets were used by half, and by more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli.output import JsonOption, console, dollars, moment, print_json, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from fleet.budgets.rules.alerts import Alert


def add_to(parent: typer.Typer) -> None:
    """Give `fleet budget` this command."""
    parent.command()(alerts)


def alerts(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of them.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show which scopes have used 50, 80, 90 or 100 % of their dollars, the newest first, and which
    models have ignored the limit of their answers.

    What is reserved counts as used. Beat looks each minute and says each threshold once a window,
    whatever becomes of the limit. Some 10,000 are kept.

    Example: `fleet budget alerts --limit 50 --json`
    """
    from fleet import Fleet

    found = Fleet.from_env().alerts(limit)
    if as_json:
        print_json([_json(alert) for alert in found])
    elif found:
        console().print(_table(found))
    else:
        say("no budget was used by half yet")


def _json(alert: Alert) -> dict[str, Any]:
    """An alert for programs; amounts are nano-dollars."""
    from fleet.budgets.rules.alerts import LIMIT_KIND, LimitAlert

    kind = LIMIT_KIND if isinstance(alert, LimitAlert) else "budget"
    return {"kind": kind, **alert._asdict(), "at": alert.epoch, "sentence": alert.sentence}


def _table(found: Iterable[Alert]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from fleet.budgets.rules.alerts import LimitAlert

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("time", "scope", "window"):
        table.add_column(name, no_wrap=name == "time")
    for name in ("reached", "limit", "spent", "reserved"):
        table.add_column(name, justify="right", no_wrap=True)
    for alert in found:
        if isinstance(alert, LimitAlert):
            tokens = (f"{alert.asked:,} tokens", f"{alert.written:,} tokens", "")
            table.add_row(moment(alert.epoch), Text(alert.scope), "an answer", "its limit", *tokens)
            continue
        amounts = map(dollars, (alert.limit, alert.settled, alert.held))
        # A foreign publisher's tenant may be any text.
        scope = Text(alert.scope)
        reached = f"{alert.threshold} %"
        table.add_row(moment(alert.epoch), scope, alert.window_id, reached, *amounts)
    return table
