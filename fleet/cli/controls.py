"""What the commands of limits, budgets and other controls share: options, and limits in words, as a
table and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fleet.cli.output import dollars, say
from fleet.cli.rows import Column, table

if TYPE_CHECKING:
    from rich.table import Table

    from fleet import Fleet
    from fleet.budgets.controls import LimitInForce
    from fleet.budgets.usage import LimitUsage

NONE = "none"
ORIGINS = {"set": "at run time", "configured": "the configuration"}

ScopeArgument = Annotated[
    str,
    typer.Argument(
        help="`all`, `tenant:NAME`, `agent_type:NAME` or `model:NAME`; `*` as NAME is each that "
        "has no such limit of its own."
    ),
]
WhyOption = Annotated[str, typer.Option("--why", help="Why, for whoever reads `fleet audit`.")]
ByOption = Annotated[
    str, typer.Option("--by", help="Who; by default the user of the operating system.")
]


def amounts(given: Mapping[str, tuple[str, str | None]]) -> dict[str, float | None]:
    """Limits by their names in the configuration, from the options that were given.

    `given` has the option and its text by that name. Raises `InvalidRequest`.
    """
    from fleet.errors import InvalidRequest

    if all(text is None for _, text in given.values()):
        options = ", ".join(option for option, _ in given.values())
        raise InvalidRequest(f"name a limit to set: {options}; each a number, or {NONE}")
    return {
        name: _amount(option, text) for name, (option, text) in given.items() if text is not None
    }


def _amount(option: str, text: str) -> float | None:
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
            f"{option} {text!r}: write a number, or {NONE} to have no such limit"
        ) from None


def tell_limits(fleet: Fleet, scope: str, names: Mapping[str, object]) -> None:
    """Say what limits of a scope are in force, of those named."""
    from fleet.budgets.controls import CONFIGURED

    keys = {(scope, *CONFIGURED[name]) for name in names}
    for limit in fleet.limits():
        if limit.key in keys:
            say(f"{scope}: {said(limit)}")


def tell_cleared(scope: str, count: int) -> None:
    """Say that so many limits of a scope went back to the configuration."""
    if count:
        what = "1 limit goes" if count == 1 else f"{count} limits go"
        say(f"{scope}: {what} by the configuration again")
    else:
        say(f"nothing was set for {scope}")


def said(limit: LimitInForce) -> str:
    """A limit in words, such as `at most 1,000 requests in any 60 minutes`."""
    from fleet.budgets.rules.limits import WINDOW_PHRASES, Limit

    _, window, quantity = limit.key
    if limit.most is None:
        return f"no limit on {quantity} {WINDOW_PHRASES[window]}"
    return f"at most {Limit(window, quantity, limit.most).description}"


class LimitRow(NamedTuple):
    """A line of the table of limits."""

    scope: str
    limit: str
    spent: str
    reserved: str
    used: str
    origin: str


def limits_table(limits: Iterable[LimitInForce], found: Iterable[LimitUsage]) -> Table:
    """One line a limit and, under a limit for each of a kind, one for each that uses it."""
    return table(_limit_rows(limits, found), LIMITS)


def _limit_rows(
    limits: Iterable[LimitInForce], found: Iterable[LimitUsage]
) -> Iterator[LimitRow]:
    by_limit: dict[LimitInForce, list[LimitUsage]] = {}
    for standing in found:
        by_limit.setdefault(standing.limit, []).append(standing)
    for limit in limits:
        rows = by_limit.get(limit, [])
        own = next((row for row in rows if row.scope == limit.key.scope), None)
        used = _used(own) if own else ("", "", "")
        yield LimitRow(limit.key.scope, said(limit), *used, ORIGINS[limit.origin])
        for row in rows if own is None else ():
            yield LimitRow(f"  {row.scope}", "", *_used(row), "")


def _used(row: LimitUsage) -> tuple[str, str, str]:
    quantity = row.limit.key.quantity
    share = "" if row.used is None else f"{row.used:.0%}"
    return _quantity(quantity, row.settled), _quantity(quantity, row.reserved), share


def _quantity(quantity: str, number: int) -> str:
    return dollars(number) if quantity == "dollars" else f"{number:,}"


def limit_json(limit: LimitInForce, found: Iterable[LimitUsage]) -> dict[str, Any]:
    """A limit for programs, with those that use it: dollars are nano-dollars, a lifted one is
    null."""
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
            for row in found
            if row.limit == limit
        ],
    }


LIMITS: tuple[Column[LimitRow], ...] = (
    Column("scope", lambda row: row.scope, overflow="fold"),
    Column("limit", lambda row: row.limit, overflow="fold"),
    Column("spent", lambda row: row.spent, overflow="fold"),
    Column("reserved", lambda row: row.reserved, overflow="fold"),
    Column("used", lambda row: row.used, overflow="fold"),
    Column("said in", lambda row: row.origin, overflow="fold"),
)
