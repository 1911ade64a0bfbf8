"""`fleet budget`: what may be used in an hour, a day and a month, and what becomes of the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.controls import (
    ORIGINS,
    ByOption,
    ScopeArgument,
    WhyOption,
    amounts,
    limit_json,
    limits_table,
    tell_cleared,
    tell_limits,
)
from fleet.cli.emergency import emergency_json, emergency_said
from fleet.cli.output import JsonOption, console, dollars, moment, print_json, say, tasks_of
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from fleet.budgets.controls import OverInForce
    from fleet.budgets.rules.alerts import Alert
    from fleet.budgets.rules.controls import Downgrade

app = typer.Typer(
    no_args_is_help=True,
    help="Budgets by UTC hour, day and month, changed while the fleet runs. "
    "Example: `fleet budget show`",
)

Window = Literal["hour", "day", "month"]
NAMES = {"hour": "hourly", "day": "daily", "month": "monthly"}
QUANTITIES = ("usd", "tokens", "requests")
SAID = {
    "downgrade": "a call that does not fit goes to a cheaper model from now on",
    "wait": "a call that does not fit waits for the window to turn from now on",
    "refuse": "a call that does not fit is refused from now on",
    "configured": "the configuration holds again",
}
NOT_SET = "nothing was set, the configuration holds"


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="budget")


@app.command("set")
def set_(
    scope: ScopeArgument,
    window: Annotated[Window, typer.Option(help="The UTC hour, day or month.")],
    why: WhyOption,
    dollars: Annotated[str | None, typer.Option(help="US dollars, or none.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens of input and output, or none.")] = None,
    requests: Annotated[str | None, typer.Option(help="Model calls, or none.")] = None,
    by: ByOption = "",
) -> None:
    """Set a budget of a scope for the next task of every process, all of it or nothing.

    It goes before the configuration; none lifts what is configured.

    Example: `fleet budget set tenant:acme --window day --dollars 20 --why "as agreed"`
    """
    from fleet import Fleet

    named = NAMES[window]
    wanted = amounts(
        {
            f"{named}_usd": ("--dollars", dollars),
            f"{named}_tokens": ("--tokens", tokens),
            f"{named}_requests": ("--requests", requests),
        }
    )
    fleet = Fleet.from_env()
    fleet.set_limits(scope, wanted, why=why, by=by)
    tell_limits(fleet, scope, wanted)


@app.command()
def clear(
    scope: ScopeArgument,
    why: WhyOption,
    window: Annotated[
        Window | None, typer.Option(help="Only of the UTC hour, day or month.")
    ] = None,
    by: ByOption = "",
) -> None:
    """Go back to what the configuration says, for all budgets of a scope or those of a window.

    Example: `fleet budget clear tenant:acme --window day --why "back to the contract"`
    """
    from fleet import Fleet

    windows = [NAMES[window]] if window else NAMES.values()
    names = [f"{named}_{quantity}" for named in windows for quantity in QUANTITIES]
    tell_cleared(scope, Fleet.from_env().clear_limits(scope, names, why=why, by=by))


@app.command()
def policy(
    over: Annotated[
        Literal["downgrade", "wait", "refuse", "configured"],
        typer.Argument(help="To a cheaper model, wait for the window to turn, or not at all."),
    ],
    why: WhyOption,
    request_type: Annotated[
        str, typer.Option("--request-type", help="Only tasks of this request type.")
    ] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Only tasks of this tenant.")] = "",
    by: ByOption = "",
) -> None:
    """Say what becomes of model calls that do not fit a budget; the narrowest policy holds.

    With `configured` the configuration holds again.

    Example: `fleet budget policy wait --tenant acme --why "they can wait for the morning"`
    """
    from fleet import Fleet

    new = Fleet.from_env().set_budget_policy(
        over, request_type=request_type, tenant=tenant, why=why, by=by
    )
    said = NOT_SET if over == "configured" and not new else SAID[over]
    say(f"{tasks_of(request_type, tenant)}: {said}")


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the budgets and policies in force, how much of each is used, and where it was said.

    Example: `fleet budget show --json`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    controls, budgets = fleet.controls(), fleet.settings.config.budgets
    limits = [each for each in controls.in_force() if each.key.window in NAMES]
    found = fleet.limit_usage(limits)
    if as_json:
        downgrade = controls.downgrade
        print_json(
            {
                "limits": [limit_json(limit, found) for limit in limits],
                "task_nanodollars": controls.task_nanodollars,
                "task_tokens": budgets.task_tokens,
                "task_requests": budgets.task_requests,
                "policies": [_over_json(over) for over in controls.overs_in_force()],
                "downgrade": {
                    "over_nanodollars": downgrade.over,
                    "nearly": downgrade.nearly,
                    "models": downgrade.models,
                },
                "emergency": emergency_json(controls.emergency),
            }
        )
        return
    screen = console()
    screen.print(limits_table(limits, found))
    screen.print()
    screen.print(table(controls.overs_in_force(), OVERS))
    say("\n" + _downgrade_said(controls.downgrade))
    say(emergency_said(controls.emergency))


@app.command()
def alerts(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many of them.")] = 20,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show which scopes have used 50, 80, 90 or 100 % of their dollars, the newest first, and which
    models have ignored the limit of their answers.

    What is reserved counts as used. Beat looks each minute and says each threshold once a window,
    whatever becomes of the limit. Some 10,000 are kept.

    Example: `fleet budget alerts --limit 50 --json`
    """
    from fleet import Fleet

    found = Fleet.from_env().alerts(limit)
    if found or as_json:
        print_rows(found, ALERTS, _alert_json, as_json, as_csv)
    else:
        say("no budget was used by half yet")


def _alert_json(alert: Alert) -> dict[str, Any]:
    """An alert for programs; amounts are nano-dollars."""
    from fleet.budgets.rules.alerts import LIMIT_KIND, LimitAlert

    kind = LIMIT_KIND if isinstance(alert, LimitAlert) else "budget"
    return {"kind": kind, **alert._asdict(), "at": alert.epoch, "sentence": alert.sentence}


def _over_json(over: OverInForce) -> dict[str, Any]:
    """A budget policy for programs."""
    return {
        "request_type": over.tasks.request_type or None,
        "tenant": over.tasks.tenant or None,
        "over": over.over,
        "said": over.origin,
    }


def _downgrade_said(downgrade: Downgrade) -> str:
    """The way down to cheaper models, in words."""
    if not downgrade.models:
        return "no model goes down to a cheaper one"
    ways = ", ".join(f"{expensive} to {cheap}" for expensive, cheap in downgrade.models.items())
    return (
        f"over {dollars(downgrade.over)} a task, and from {downgrade.nearly:.0%} of a budget on, "
        f"models go down: {ways}"
    )


def _alert_cells(alert: Alert) -> tuple[str, str, str, str, str]:
    """Window, what was reached, limit, spent and reserved."""
    from fleet.budgets.rules.alerts import LimitAlert

    if isinstance(alert, LimitAlert):
        asked, written = f"{alert.asked:,} tokens", f"{alert.written:,} tokens"
        return "an answer", "its limit", asked, written, ""
    amounts = (dollars(alert.limit), dollars(alert.settled), dollars(alert.held))
    return alert.window_id, f"{alert.threshold} %", *amounts


ALERTS: tuple[Column[Alert], ...] = (
    Column("time", lambda alert: moment(alert.epoch), whole=True),
    Column("scope", lambda alert: alert.scope),
    Column("window", lambda alert: _alert_cells(alert)[0]),
    figure("reached", lambda alert: _alert_cells(alert)[1]),
    figure("limit", lambda alert: _alert_cells(alert)[2]),
    figure("spent", lambda alert: _alert_cells(alert)[3]),
    figure("reserved", lambda alert: _alert_cells(alert)[4]),
)
OVERS: tuple[Column[OverInForce], ...] = (
    Column("request type", lambda over: over.tasks.request_type or "any", overflow="fold"),
    Column("tenant", lambda over: over.tasks.tenant or "any", overflow="fold"),
    Column("a call that does not fit", lambda over: over.over, overflow="fold"),
    Column("said in", lambda over: ORIGINS[over.origin], overflow="fold"),
)
