"""`fleet limits`: rate limits over any 60 minutes, and limits on concurrent tasks.

`fleet budget` shares the options, the table and the JSON of limits with this command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleet.cli.output import ByOption, JsonOption, WhyOption, console, dollars, print_json, say
from fleet.cli.rows import Column, RowTable, table

if TYPE_CHECKING:
    from fleet import Fleet
    from fleet.budgets.controls import LimitInForce
    from fleet.budgets.usage import LimitUsage

app = typer.Typer(
    no_args_is_help=True,
    help="Show and change rate limits and limits on concurrent tasks, while the fleet runs."
    "\n\nExample: `fleet limits show`",
)

WINDOWS = ("rolling", "now")
NONE = "none"
ORIGINS = {"set": "at run time", "configured": "the configuration"}

ScopeArgument = Annotated[
    str,
    typer.Argument(
        help="`all`, `tenant:NAME`, `agent_type:NAME` or `model:NAME`. The NAME `*` stands for "
        "each one without such a limit of its own."
    ),
]


def add_to(parent: typer.Typer) -> None:
    """Give the command line these commands."""
    parent.add_typer(app, name="limits")


@app.command("set")
def set_(
    scope: ScopeArgument,
    why: WhyOption,
    requests: Annotated[
        str | None, typer.Option(help="Model calls in any 60 minutes, or `none`.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Input and output tokens in any 60 minutes, or `none`.")
    ] = None,
    dollars: Annotated[
        str | None, typer.Option(help="US dollars in any 60 minutes, or `none`.")
    ] = None,
    concurrent: Annotated[
        str | None, typer.Option(help="Concurrent tasks, waiting ones included, or `none`.")
    ] = None,
    by: ByOption = "",
) -> None:
    """Set limits of a scope. Either all of the given limits are set, or none.

    The new limits override the configuration. Every process applies them from its next task on.
    `none` removes a configured limit.

    Example: `fleet limits set tenant:acme --requests 1000 --concurrent 10 --why "a pilot"`
    """
    from fleet import Fleet

    wanted = parse_limits(
        {
            "requests": ("--requests", requests),
            "tokens": ("--tokens", tokens),
            "usd": ("--dollars", dollars),
            "concurrent_tasks": ("--concurrent", concurrent),
        }
    )
    fleet = Fleet.from_env()
    fleet.set_limits(scope, wanted, why=why, by=by)
    print_limits(fleet, scope, wanted)


@app.command()
def show(as_json: JsonOption = False) -> None:
    """Show the rate limits in force, their usage, and where each was set.

    Example: `fleet limits show --json`
    """
    from fleet import Fleet

    fleet = Fleet.from_env()
    limits = [each for each in fleet.limits() if each.key.window in WINDOWS]
    usage = fleet.limit_usage(limits)
    if as_json:
        print_json([limit_json(limit, usage) for limit in limits])
    elif limits:
        console().print(limits_table(limits, usage))
    else:
        say("no rate limits are set; `fleet budget show` lists the budgets")


@app.command()
def clear(
    scope: ScopeArgument,
    why: WhyOption,
    requests: Annotated[
        bool, typer.Option("--requests", help="Only the limit on model calls.")
    ] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="Only the limit on tokens.")] = False,
    dollars: Annotated[bool, typer.Option("--dollars", help="Only the limit on dollars.")] = False,
    concurrent: Annotated[
        bool, typer.Option("--concurrent", help="Only the limit on concurrent tasks.")
    ] = False,
    by: ByOption = "",
) -> None:
    """Return a scope's rate limits to the configuration: those named, or all of them.

    Example: `fleet limits clear tenant:acme --requests --why "the pilot is over"`
    """
    from fleet import Fleet

    named = {
        "requests": requests,
        "tokens": tokens,
        "usd": dollars,
        "concurrent_tasks": concurrent,
    }
    chosen = [name for name, wanted in named.items() if wanted] or list(named)
    print_cleared(scope, Fleet.from_env().clear_limits(scope, chosen, why=why, by=by))


def parse_limits(given: Mapping[str, tuple[str, str | None]]) -> dict[str, float | None]:
    """Limits by their names in the configuration. None stands for no limit.

    `given` maps each name to its option and the text of the option, None if it was not given.
    Raises `InvalidRequest`.
    """
    from fleet.errors import InvalidRequest

    if all(text is None for _, text in given.values()):
        options = ", ".join(option for option, _ in given.values())
        raise InvalidRequest(f"name a limit to set: {options}; each takes a number or {NONE}")
    return {
        name: _parse_limit(option, text)
        for name, (option, text) in given.items()
        if text is not None
    }


def _parse_limit(option: str, text: str) -> float | None:
    from fleet.errors import InvalidRequest

    if text == NONE:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(
            f"{option} {text!r}: give a number, or {NONE} to remove the limit"
        ) from None


def print_limits(fleet: Fleet, scope: str, names: Iterable[str]) -> None:
    """Print the limits of a scope that are in force, only those named."""
    from fleet.budgets.controls import CONFIGURED

    keys = {(scope, *CONFIGURED[name]) for name in names}
    for limit in fleet.limits():
        if limit.key in keys:
            say(f"{scope}: {_describe(limit)}")


def print_cleared(scope: str, count: int) -> None:
    """Print how many limits of a scope returned to the configuration."""
    if count:
        what = "1 limit returns" if count == 1 else f"{count} limits return"
        say(f"{scope}: {what} to the configuration")
    else:
        say(f"{scope}: no such limit was set at run time")


def _describe(limit: LimitInForce) -> str:
    """Such as `at most 1,000 requests in any 60 minutes`."""
    from fleet.budgets.rules.limits import WINDOW_PHRASES, Limit

    _, window, quantity = limit.key
    if limit.most is None:
        return f"no limit on {quantity} {WINDOW_PHRASES[window]}"
    return f"at most {Limit(window, quantity, limit.most).description}"


class LimitRow(NamedTuple):
    """A row of the table of limits."""

    scope: str
    limit: str
    spent: str
    reserved: str
    used: str
    origin: str


def limits_table(limits: Iterable[LimitInForce], usage: Iterable[LimitUsage]) -> RowTable:
    """One row for each limit. Under a limit that holds for several scopes, such as `tenant:*`,
    there is one row for each of them."""
    return table(_limit_rows(limits, usage), LIMITS)


def _limit_rows(
    limits: Iterable[LimitInForce], usage: Iterable[LimitUsage]
) -> Iterator[LimitRow]:
    by_limit: dict[LimitInForce, list[LimitUsage]] = {}
    for each in usage:
        by_limit.setdefault(each.limit, []).append(each)
    for limit in limits:
        rows = by_limit.get(limit, [])
        own = next((row for row in rows if row.scope == limit.key.scope), None)
        used = _used(own) if own else ("", "", "")
        yield LimitRow(limit.key.scope, _describe(limit), *used, ORIGINS[limit.origin])
        for row in rows if own is None else ():
            yield LimitRow(f"  {row.scope}", "", *_used(row), "")


def _used(row: LimitUsage) -> tuple[str, str, str]:
    quantity = row.limit.key.quantity
    share = "" if row.used is None else f"{row.used:.0%}"
    return _quantity(quantity, row.settled), _quantity(quantity, row.reserved), share


def _quantity(quantity: str, number: int) -> str:
    return dollars(number) if quantity == "dollars" else f"{number:,}"


def limit_json(limit: LimitInForce, usage: Iterable[LimitUsage]) -> dict[str, Any]:
    """A limit and its usage for programs. Dollars are nano-dollars; no limit is null."""
    scope, window, quantity = limit.key
    unit = "nanodollars" if quantity == "dollars" else quantity
    return {
        "scope": scope,
        "window": window,
        "quantity": quantity,
        "most": limit.most,
        "unit": unit,
        "said": limit.origin,
        "used": [
            {"scope": row.scope, "settled": row.settled, "reserved": row.reserved}
            for row in usage
            if row.limit == limit
        ],
    }


LIMITS: tuple[Column[LimitRow], ...] = (
    Column("scope", lambda row: row.scope),
    Column("limit", lambda row: row.limit),
    Column("spent", lambda row: row.spent),
    Column("reserved", lambda row: row.reserved),
    Column("used", lambda row: row.used),
    Column("set in", lambda row: row.origin),
)
