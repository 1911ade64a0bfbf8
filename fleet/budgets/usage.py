"""How the scopes stand against their limits: what is spent, what is reserved, what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from fleet.budgets.controls import LimitInForce
from fleet.budgets.usage_store import Standing, UsageStore
from fleet.ledger.rules.entries import Counted
from fleet.policy.rules import Quantity
from fleet.settings.names import EACH

FIELDS: Mapping[Quantity, str] = {
    "dollars": "amount",
    "tokens": "tokens",
    "requests": "requests",
    "tasks": "tasks",
}
MAX_EACH = 20
"""Scopes that are shown of a limit for each of a kind: those that have used most of it."""


class LimitStanding(NamedTuple):
    """A limit, the scope that it is held against, and what that has spent and reserved of it."""

    limit: LimitInForce
    scope: str
    settled: int
    reserved: int

    @property
    def used(self) -> float | None:
        """The share that is spent or reserved; None where the limit was lifted."""
        most = self.limit.most
        return None if most is None else (self.settled + self.reserved) / most


def standings(usage: UsageStore, limits: Sequence[LimitInForce]) -> list[LimitStanding]:
    """How each limit is used now. One for each of a kind is told for those that use most of it."""
    # Each kind is looked for once: that goes through the whole book.
    in_use = cache(usage.scopes)
    whose = {limit.key: _scopes(in_use, limit, limits) for limit in limits}
    wanted = sorted({scope for scopes in whose.values() for scope in scopes})
    found = usage.standing(wanted)
    told = []
    for limit in limits:
        rows = [_stands(limit, scope, found[scope]) for scope in whose[limit.key]]
        rows.sort(key=lambda row: (-(row.used or 0.0), row.scope))
        told += rows[:MAX_EACH]
    return told


def _scopes(
    in_use: Callable[[str], Iterable[str]], limit: LimitInForce, limits: Iterable[LimitInForce]
) -> tuple[str, ...]:
    """The scopes that a limit is held against: of `*` those that use money and say nothing else."""
    scope, window, quantity = limit.key
    kind, _, name = scope.partition(":")
    if name != EACH:
        return (scope,)
    own = {each.key.scope for each in limits if each.key[1:] == (window, quantity)}
    return tuple(each for each in in_use(kind) if each not in own)


def _stands(limit: LimitInForce, scope: str, standing: Standing) -> LimitStanding:
    field = FIELDS[limit.key.quantity]
    counted = standing.settled.get(limit.key.window, Counted())
    return LimitStanding(
        limit, scope, getattr(counted, field, 0), int(getattr(standing.held, field))
    )
