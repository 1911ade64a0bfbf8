"""Limits, budget policies and changes as tables, and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from fleet.budgets.rules.limits import WINDOW_PHRASES, Limit
from fleet.cli.output import dollars, moment

if TYPE_CHECKING:
    from fleet.budgets.controls import LimitInForce, OverInForce
    from fleet.budgets.rules.controls import Downgrade
    from fleet.budgets.usage import LimitUsage
    from fleet.policy.audit_store import PolicyChange
    from fleet.policy.rules import Emergency

ORIGINS = {"set": "at run time", "configured": "the configuration"}


def said(limit: LimitInForce) -> str:
    """A limit in words, such as `at most 1,000 requests in any 60 minutes`."""
    _, window, quantity = limit.key
    if limit.most is None:
        return f"no limit on {quantity} {WINDOW_PHRASES[window]}"
    return f"at most {Limit(window, quantity, limit.most).description}"


def limits_table(limits: Iterable[LimitInForce], found: Iterable[LimitUsage]) -> Table:
    """One line a limit and, under a limit for each of a kind, one for each that uses it."""
    table = _table("scope", "limit", "spent", "reserved", "used", "said in")
    by_limit: dict[LimitInForce, list[LimitUsage]] = {}
    for standing in found:
        by_limit.setdefault(standing.limit, []).append(standing)
    for limit in limits:
        rows = by_limit.get(limit, [])
        own = next((row for row in rows if row.scope == limit.key.scope), None)
        used = _used(own) if own else ("", "", "")
        table.add_row(*_plain(limit.key.scope, said(limit), *used, ORIGINS[limit.origin]))
        for row in rows if own is None else ():
            table.add_row(*_plain(f"  {row.scope}", "", *_used(row), ""))
    return table


def _used(row: LimitUsage) -> tuple[str, str, str]:
    quantity = row.limit.key.quantity
    share = "" if row.used is None else f"{row.used:.0%}"
    return _amount(quantity, row.settled), _amount(quantity, row.reserved), share


def _amount(quantity: str, number: int) -> str:
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


def overs_table(overs: Iterable[OverInForce]) -> Table:
    """One line a budget policy, the widest scope first."""
    table = _table("request type", "tenant", "a call that does not fit", "said in")
    for tasks, over, origin in overs:
        whose = (tasks.request_type or "any", tasks.tenant or "any")
        table.add_row(*_plain(*whose, over, ORIGINS[origin]))
    return table


def over_json(over: OverInForce) -> dict[str, Any]:
    """A budget policy for programs."""
    return {
        "request_type": over.tasks.request_type or None,
        "tenant": over.tasks.tenant or None,
        "over": over.over,
        "said": over.origin,
    }


def downgrade_said(downgrade: Downgrade) -> str:
    """The way down to cheaper models, in words."""
    if not downgrade.models:
        return "no model goes down to a cheaper one"
    ways = ", ".join(f"{expensive} to {cheap}" for expensive, cheap in downgrade.models.items())
    return (
        f"over {dollars(downgrade.over)} a task, and from {downgrade.nearly:.0%} of a budget on, "
        f"models go down: {ways}"
    )


def emergency_said(emergency: Emergency | None) -> str:
    """The emergency mode, in words."""
    if emergency is None:
        return "no emergency: all tasks pass"
    others = f", and those of {', '.join(sorted(emergency.tenants))}" if emergency.tenants else ""
    since = f"since {moment(emergency.at)}, by {emergency.by}: {emergency.why}"
    return f"emergency: only tasks of priority 0 pass{others}\n{since}"


def emergency_json(emergency: Emergency | None) -> dict[str, Any]:
    """The emergency mode for programs; `at` is in seconds since 1970."""
    if emergency is None:
        return {"on": False}
    return {"on": True, **emergency._asdict(), "tenants": sorted(emergency.tenants)}


def changes_table(changes: Iterable[PolicyChange]) -> Table:
    """One line a change of the policy."""
    table = _table("time", "by", "what", "before", "after", "why")
    for change in changes:
        about = " ".join(part for part in change.about if part)
        values = (_value(change, change.before), _value(change, change.after))
        what = f"{change.kind} {about}".strip()
        table.add_row(*_plain(moment(change.epoch), change.by, what, *values, change.why))
    return table


def change_json(change: PolicyChange) -> dict[str, Any]:
    """A change for programs; `at` is in seconds since 1970, what there was not is null."""
    values = {"before": change.before or None, "after": change.after or None}
    return {**change._asdict(), "at": change.epoch, **values}


def _value(change: PolicyChange, value: str) -> str:
    """What was written, in few words; a dash where there was nothing."""
    if not value:
        return "-"
    if change.kind == "limit" and change.about[2] == "dollars" and value.isdigit():
        return dollars(int(value))
    if change.kind == "route":
        return str(json.loads(value)["strategy"])
    if change.kind == "emergency":
        tenants = json.loads(value)["tenants"]
        return f"on, but for {', '.join(tenants)}" if tenants else "on"
    return value


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _plain(*texts: str) -> list[Text]:
    """Text as it is: names and reasons are other people's words, and no markup."""
    return [Text(text) for text in texts]
