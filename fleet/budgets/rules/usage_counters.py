"""The usage counters as a value: the spending of scopes in their windows, and their reservations.

`lua/parts/usage_counters.lua` says what each field of the hash means. `lua/parts/reservation.lua`
says what is reserved for a task, and what of it belongs to the task's model calls.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.settings.names import ALL, SCOPE_KINDS

HELD = "held"
ROLLING = "r"
ROLLING_MINUTES = 60

HOURS_KEPT_DAYS = 8
DAYS_KEPT = 400
"""The days for which the counters keep settled amounts by the hour, and by the day. Amounts by the
month stay for ever."""


class Counted(NamedTuple):
    """The spending of a scope in a window: nano-dollars, input and output tokens, model calls."""

    amount: int = 0
    tokens: int = 0
    requests: int = 0


class ReservedAmounts(NamedTuple):
    """The reservations in a scope for tasks that have not ended, and the number of these tasks."""

    amount: int = 0
    tokens: int = 0
    requests: int = 0
    tasks: int = 0


class Holding(NamedTuple):
    """The reservation of a task or a model call in its scopes. `tasks` is 0 for a model call."""

    scopes: tuple[str, ...]
    held: ReservedAmounts


@dataclass(frozen=True, slots=True)
class UsageCounters:
    """All scopes: settled amounts by window, reserved amounts, and settled amounts by minute.

    `rolling` is the counter of the last 60 minutes, `minutes` the counters of single minutes.
    """

    counters: dict[str, dict[str, Counted]] = field(default_factory=dict)
    held: dict[str, ReservedAmounts] = field(default_factory=dict)
    rolling: dict[str, Counted] = field(default_factory=dict)
    minutes: dict[str, dict[int, Counted]] = field(default_factory=dict)


def parse_counters(fields: Mapping[str, str]) -> UsageCounters:
    """The counters from their hash."""
    usage = UsageCounters()
    for name, packed in fields.items():
        window, _, scope = name.partition(" ")
        numbers = [int(number) for number in packed.split(",")]
        if window == HELD:
            usage.held[scope] = ReservedAmounts(*numbers)
        elif window == ROLLING:
            usage.rolling[scope] = Counted(*numbers[:3])
        elif window.startswith(ROLLING):
            usage.minutes.setdefault(scope, {})[int(window[1:])] = Counted(*numbers)
        else:
            usage.counters.setdefault(scope, {})[window] = Counted(*numbers)
    return usage


def is_kept(window: str, oldest: tuple[str, str]) -> bool:
    """Whether the counters are sure to include a window, if these are the `oldest` ones kept."""
    return all(window >= each for each in oldest if window[0] == each[0])


def parse_holding(packed: str, is_task: bool) -> Holding:
    """A reservation, from a field of the reservations or of the calls in flight."""
    amount, tokens, requests, rest = packed.split(",", 3)
    names = json.loads(rest.partition("\n")[0])
    scopes = (ALL, *(f"{kind}:{name}" for kind, name in zip(SCOPE_KINDS, names, strict=True)))
    return Holding(scopes, ReservedAmounts(int(amount), int(tokens), int(requests), int(is_task)))


def held_by_scope(holdings: Iterable[Holding]) -> dict[str, ReservedAmounts]:
    """The reserved sum of each scope, from all reservations."""
    sums: defaultdict[str, ReservedAmounts] = defaultdict(ReservedAmounts)
    for holding in holdings:
        for scope in holding.scopes:
            sums[scope] = _plus(sums[scope], holding.held)
    return dict(sums)


def _plus(one: ReservedAmounts, other: ReservedAmounts) -> ReservedAmounts:
    return ReservedAmounts(*(a + b for a, b in zip(one, other, strict=True)))
