"""The usage of limits: how much of each limit is spent and reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from fleet.budgets.controls import LimitInForce
from fleet.budgets.rules.usage_counters import Counted
from fleet.budgets.usage_store import ScopeUsage, UsageStore
from fleet.policy.rules import Quantity
from fleet.settings.names import EACH

FIELDS: Mapping[Quantity, str] = {
    "dollars": "amount",
    "tokens": "tokens",
    "requests": "requests",
    "tasks": "tasks",
}
MAX_EACH = 20
"""The most scopes shown for a limit of each scope of a kind: those that have used most of it."""


class LimitUsage(NamedTuple):
    """A limit, a scope that it applies to, and what the scope has spent and reserved of it."""

    limit: LimitInForce
    scope: str
    settled: int
    reserved: int

    @property
    def used(self) -> float | None:
        """The share that is spent or reserved; None if the limit was lifted."""
        most = self.limit.most
        return None if most is None else (self.settled + self.reserved) / most


def limit_usages(usage: UsageStore, limits: Sequence[LimitInForce]) -> list[LimitUsage]:
    """The usage of each limit now. A limit of `*` is reported for the scopes that use most of it.
    """
    # One search for each kind, because a search reads all counters.
    in_use = cache(usage.scopes)
    whose = {limit.key: _scopes(in_use, limit, limits) for limit in limits}
    wanted = sorted({scope for scopes in whose.values() for scope in scopes})
    found = usage.scope_usage(wanted)
    usages = []
    for limit in limits:
        rows = [_limit_usage(limit, scope, found[scope]) for scope in whose[limit.key]]
        rows.sort(key=lambda row: (-(row.used or 0.0), row.scope))
        usages += rows[:MAX_EACH]
    return usages


def _scopes(
    in_use: Callable[[str], Iterable[str]], limit: LimitInForce, limits: Iterable[LimitInForce]
) -> tuple[str, ...]:
    """The scopes that a limit applies to: for `*` the scopes with usage and no limit of their own.
    """
    scope, window, quantity = limit.key
    kind, _, name = scope.partition(":")
    if name != EACH:
        return (scope,)
    own = {each.key.scope for each in limits if each.key[1:] == (window, quantity)}
    return tuple(each for each in in_use(kind) if each not in own)


def _limit_usage(limit: LimitInForce, scope: str, usage: ScopeUsage) -> LimitUsage:
    field = FIELDS[limit.key.quantity]
    counted = usage.settled.get(limit.key.window, Counted())
    return LimitUsage(
        limit, scope, getattr(counted, field, 0), int(getattr(usage.held, field))
    )
