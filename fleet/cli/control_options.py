"""Options that the commands share which change limits and controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli.output import say

if TYPE_CHECKING:
    from fleet import Fleet

NONE = "none"

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
    from fleet.cli.control_tables import said

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
