"""Limits: the most that a scope may use of a quantity in a window.

A scope is `all`, or a kind and a name: `tenant:acme`, `agent_type:code_generator`, `model:gpt-5`.
The name `*` stands for each scope of the kind. A limit of `tenant:*` holds for every tenant
separately, unless the tenant has its own limit for the same window and quantity.

    window          letter   meaning
    hour            h        the UTC hour, by Redis's clock
    day             d        the UTC day
    month           m        the UTC month
    rolling         r        the last 60 minutes at any moment
    now             c        at the same time

    quantity        number   meaning
    dollars         1        US dollars, in nano-dollars
    tokens          2        tokens of input and output
    requests        3        model calls: a submitted task reserves one, each further call another
    tasks           4        submitted tasks that have not ended; only in the window `now`
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple, get_args

from fleet.money import dollars
from fleet.policy.rules import LimitKey, Quantity, Window
from fleet.settings.names import EACH

WINDOWS: tuple[Window, ...] = get_args(Window)
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
LETTERS: Mapping[Window, str] = dict(zip(WINDOWS, "hdmrc", strict=True))
NUMBERS: Mapping[Quantity, int] = {name: 1 + i for i, name in enumerate(QUANTITIES)}

MOST = 2**53 - 1
"""The largest number that Lua counts exactly: 9 million dollars."""

WINDOW_PHRASES: Mapping[Window, str] = {
    "hour": "per UTC hour",
    "day": "per UTC day",
    "month": "per UTC month",
    "rolling": "in any 60 minutes",
    "now": "at once",
}
PACKED = re.compile(r"([hdmrc])([1-4])=(\d+)")


class Limit(NamedTuple):
    """The most that a scope may use in a window, from 1 to `MOST`."""

    window: Window
    quantity: Quantity
    most: int

    @property
    def packed(self) -> str:
        """The form for the scripts, such as `d1=500000000000`."""
        return f"{LETTERS[self.window]}{NUMBERS[self.quantity]}={self.most}"

    @property
    def description(self) -> str:
        """The limit in words, such as `$500 per UTC day` or `10 tasks at once`."""
        amount = dollars(self.most) if self.quantity == "dollars" else f"{self.most:,}"
        what = "" if self.quantity == "dollars" else f" {self.quantity}"
        return f"{amount}{what} {WINDOW_PHRASES[self.window]}"


class Limits:
    """All limits by scope. Immutable.

    A limit of None is lifted: the scope has no such limit, even if `*` has one.
    """

    def __init__(self, table: Mapping[LimitKey, int | None]) -> None:
        by_scope: dict[str, dict[tuple[Window, Quantity], int | None]] = defaultdict(dict)
        for key, most in table.items():
            by_scope[key.scope][key.window, key.quantity] = most
        self._by_scope = dict(by_scope)
        self._packed = {scope: pack(self.of(scope)) for scope in self._by_scope}
        self.named_tenants = frozenset(
            scope.partition(":")[2] for scope in by_scope if scope.startswith("tenant:")
        ) - {EACH}
        """The tenants with limits of their own."""

    def of(self, scope: str) -> tuple[Limit, ...]:
        """The limits of a scope: its own, and those of `*` that it does not replace."""
        found = {**self._by_scope.get(each_of(scope), {}), **self._by_scope.get(scope, {})}
        limits = (Limit(*key, most) for key, most in found.items() if most is not None)
        return tuple(sorted(limits, key=_order))

    def packed(self, scope: str) -> str:
        """The limits of a scope as the scripts read them, such as `d1=500000000000;c4=10`.

        Empty if it has none.
        """
        own = self._packed.get(scope)
        return self._packed.get(each_of(scope), "") if own is None else own


def pack(limits: tuple[Limit, ...]) -> str:
    """Limits as the scripts read them."""
    return ";".join(limit.packed for limit in limits)


def unpack(packed: str) -> tuple[Limit, ...]:
    """The inverse of `pack`. Raises `ValueError` for anything else."""
    return tuple(_limit(part) for part in packed.split(";")) if packed else ()


def each_of(scope: str) -> str:
    """The scope for each scope of a kind: `tenant:*` for `tenant:acme`."""
    return f"{scope.partition(':')[0]}:{EACH}"


def _limit(part: str) -> Limit:
    found = PACKED.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is no packed limit")
    window = next(name for name, letter in LETTERS.items() if letter == found[1])
    return Limit(window, QUANTITIES[int(found[2]) - 1], int(found[3]))


def _order(limit: Limit) -> tuple[int, int]:
    return WINDOWS.index(limit.window), NUMBERS[limit.quantity]
