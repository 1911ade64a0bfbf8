"""`fleet audit`: who changed routes, limits and other controls, when and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from fleet.cli.output import JsonOption, LimitOption, dollars, moment, say
from fleet.cli.rows import Column, CsvOption, print_rows

if TYPE_CHECKING:
    from fleet.policy.audit_store import PolicyChange


def add_to(parent: typer.Typer) -> None:
    """Give the command line this command."""
    parent.command()(audit)


def audit(
    limit: LimitOption = 20,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Show changes of routes, limits and other controls, newest first. About 10,000 are kept.

    Example: `fleet audit --limit 50 --json`
    """
    from fleet import Fleet

    changes = Fleet.from_env().audit(limit)
    if changes or as_json:
        print_rows(changes, CHANGES, _change_json, as_json, as_csv)
    else:
        say("no changes yet")


def _change_json(change: PolicyChange) -> dict[str, Any]:
    """A change for programs. `at` is in seconds since 1970; an absent value is null."""
    values = {"before": change.before or None, "after": change.after or None}
    return {**change._asdict(), "at": change.epoch, **values}


def _value(change: PolicyChange, value: str) -> str:
    """A value in a few words. A dash stands for no value."""
    if not value:
        return "-"
    if change.kind == "limit" and change.about[2] == "dollars" and value.isdigit():
        return dollars(int(value))
    if change.kind == "route":
        return str(json.loads(value)["strategy"])
    if change.kind == "size":
        workers, until_ms = json.loads(value)
        return f"{workers} workers" + (f" until {moment(until_ms / 1000)}" if until_ms else "")
    if change.kind == "emergency":
        tenants = json.loads(value)["tenants"]
        return f"on, except for {', '.join(tenants)}" if tenants else "on"
    return value


def _what(change: PolicyChange) -> str:
    return f"{change.kind} {' '.join(part for part in change.about if part)}".strip()


CHANGES: tuple[Column[PolicyChange], ...] = (
    Column("time", lambda change: moment(change.epoch)),
    Column("by", lambda change: change.by),
    Column("what", _what),
    Column("before", lambda change: _value(change, change.before)),
    Column("after", lambda change: _value(change, change.after)),
    Column("why", lambda change: change.why),
)
