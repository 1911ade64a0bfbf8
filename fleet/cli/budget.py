"""`fleet budget`: limits by UTC hour, day and month, and what happens to calls over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fleet.cli.emergency import describe_emergency, emergency_json
from fleet.cli.limits import (
    ORIGINS,
    ScopeArgument,
    limit_json,
    limits_table,
    parse_limits,
    print_cleared,
    print_limits,
)
from fleet.cli.output import (
    ByOption,
    JsonOption,
    LimitOption,
    RequestTypeOption,
    TenantOption,
    WhyOption,
    console,
    dollars,
    moment,
    print_json,
    say,
    tasks_of,
)
from fleet.cli.rows import Column, CsvOption, figure, print_rows, table

if TYPE_CHECKING:
    from fleet.budgets.controls import OverInForce
    from fleet.budgets.rules.alerts import Alert
    from fleet.budgets.rules.controls import Downgrade

app = typer.Typer(
    no_args_is_help=True,
    help="Show and change budgets by UTC hour, day and month, while the fleet runs."
    "\n\nExample: `fleet budget show`",
)

Window = Literal["hour", "day", "month"]
NAMES = {"hour": "hourly", "day": "daily", "month": "monthly"}
QUANTITIES = ("usd", "tokens", "requests")
CHANGED = {
    "downgrade": "a call over a budget now goes to a cheaper model",
    "wait": "a call over a budget now waits for the next window",
    "refuse": "a call over a budget is now refused",
    "configured": "the configuration applies again",
}
NOT_SET = "no policy was set at run time; the configuration applies"


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="budget")


@app.command("set")
def set_(
    scope: ScopeArgument,
    window: Annotated[Window, typer.Option(help="The length of the window, in UTC.")],
    why: WhyOption,
    dollars: Annotated[str | None, typer.Option(help="US dollars, or `none`.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Input and output tokens, or `none`.")] = None,
    requests: Annotated[str | None, typer.Option(help="Model calls, or `none`.")] = None,
    by: ByOption = "",
) -> None:
    """Set budgets of a scope. Either all of the given budgets are set, or none.

    The new budgets override the configuration. Every process applies them from its next task on.
    `none` removes a configured budget.

    Example: `fleet budget set tenant:acme --window day --dollars 20 --why "as agreed"`
    """
    from fleet import Fleet

    named = NAMES[window]
    wanted = parse_limits(
        {
            f"{named}_usd": ("--dollars", dollars),
            f"{named}_tokens": ("--tokens", tokens),
            f"{named}_requests": ("--requests", requests),
        }
    )
    fleet = Fleet.from_env()
    fleet.set_limits(scope, wanted, why=why, by=by)
    print_limits(fleet, scope, wanted)


@app.command()
def clear(
    scope: ScopeArgument,
    why: WhyOption,
    window: Annotated[Window | None, typer.Option(help="Only budgets of this window.")] = None,
    by: ByOption = "",
) -> None:
    """Return a scope's budgets to the configuration: those of one window, or all of them.

    Example: `fleet budget clear tenant:acme --window day --why "back to the contract"`
    """
    from fleet import Fleet

    windows = [NAMES[window]] if window else NAMES.values()
    names = [f"{named}_{quantity}" for named in windows for quantity in QUANTITIES]
    print_cleared(scope, Fleet.from_env().clear_limits(scope, names, why=why, by=by))


@app.command()
def policy(
    over: Annotated[
        Literal["downgrade", "wait", "refuse", "configured"],
        typer.Argument(
            help="Use a cheaper model, wait for the next window, or refuse the call. `configured` "
            "returns to the configuration."
        ),
    ],
    why: WhyOption,
    request_type: RequestTypeOption = "",
    tenant: TenantOption = "",
    by: ByOption = "",
) -> None:
    """Choose what happens to model calls over a budget.

    If several policies match a task, the most specific one applies.

    Example: `fleet budget policy wait --tenant acme --why "they can wait for the morning"`
    """
    from fleet import Fleet

    new = Fleet.from_env().set_budget_policy(
        over, request_type=request_type, tenant=tenant, why=why, by=by
    )
    done = NOT_SET if over == "configured" and not new else CHANGED[over]
    say(f"{tasks_of(request_type, tenant)}: {done}")


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the budgets and policies in force, their usage, and where each was set.

    Example: `fleet budget show --json`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    controls, budgets = fleet.controls(), fleet.settings.config.budgets
    limits = [each for each in fleet.limits() if each.key.window in NAMES]
    usage = fleet.limit_usage(limits)
    if as_json:
        downgrade = controls.downgrade
        print_json(
            {
                "limits": [limit_json(limit, usage) for limit in limits],
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
    screen.print(limits_table(limits, usage))
    screen.print()
    screen.print(table(controls.overs_in_force(), OVERS))
    say("\n" + _describe_downgrade(controls.downgrade))
    say(describe_emergency(controls.emergency))


@app.command()
def alerts(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show budget alerts, newest first.

    An alert says that a scope has used 50, 80, 90 or 100 % of its dollars, or that a model has
    ignored the limit on the length of its answers. Reserved money counts as used. Beat checks every
    minute and reports each threshold once in a window, even if the limit changes. About 10,000
    alerts are kept.

    Example: `fleet budget alerts --limit 50 --json`
    """
    from fleet import Fleet

    found = Fleet.from_env().alerts(limit)
    if found or as_json:
        print_rows(found, ALERTS, _alert_json, as_json, as_csv)
    else:
        say("no alerts: no budget is half used yet")


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


def _describe_downgrade(downgrade: Downgrade) -> str:
    if not downgrade.models:
        return "no model has a cheaper replacement"
    ways = ", ".join(f"{model} by {cheaper}" for model, cheaper in downgrade.models.items())
    return (
        f"over {dollars(downgrade.over)} per task, and from {downgrade.nearly:.0%} of a budget on, "
        f"cheaper models are used: {ways}"
    )


def _alert_cells(alert: Alert) -> tuple[str, str, str, str, str]:
    """The cells window, reached, limit, spent and reserved."""
    from fleet.budgets.rules.alerts import LimitAlert

    if isinstance(alert, LimitAlert):
        asked, written = f"{alert.asked:,} tokens", f"{alert.written:,} tokens"
        return "one answer", "its limit", asked, written, ""
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
    Column("request type", lambda over: over.tasks.request_type or "any"),
    Column("tenant", lambda over: over.tasks.tenant or "any"),
    Column("a call over a budget", lambda over: over.over),
    Column("set in", lambda over: ORIGINS[over.origin]),
)
