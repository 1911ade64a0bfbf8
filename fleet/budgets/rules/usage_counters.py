"""The book of money as a value: what scopes have spent in their windows, and what they hold.

What each field of the hash means stands in `lua/parts/book.lua`, and what is held for a task and
bound by its steps in `lua/parts/reservation.lua`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.ledger.rules.entries import Counted, Held
from fleet.settings.names import ALL, SCOPE_KINDS

HELD = "held"
ROLLING = "r"
ROLLING_MINUTES = 60

HOURS_KEPT_DAYS = 8
DAYS_KEPT = 400
"""For so many days the book has what was settled by the hour, and by the day; for ever by the
month."""


class Holding(NamedTuple):
    """What a task, or one of its steps, holds in its scopes. `tasks` is 0 for a step."""

    scopes: tuple[str, ...]
    held: Held


@dataclass(frozen=True, slots=True)
class UsageCounters:
    """All scopes: settled amounts by window, held ones, and what was settled by the minute.

    `rolling` is what the book says of the last 60 minutes, `minutes` what it says of each of them.
    """

    counters: dict[str, dict[str, Counted]] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    rolling: dict[str, Counted] = field(default_factory=dict)
    minutes: dict[str, dict[int, Counted]] = field(default_factory=dict)


def parse_book(fields: Mapping[str, str]) -> UsageCounters:
    """The book from its hash."""
    book = UsageCounters()
    for name, packed in fields.items():
        window, _, scope = name.partition(" ")
        numbers = [int(number) for number in packed.split(",")]
        if window == HELD:
            book.held[scope] = Held(*numbers)
        elif window == ROLLING:
            book.rolling[scope] = Counted(*numbers[:3])
        elif window.startswith(ROLLING):
            book.minutes.setdefault(scope, {})[int(window[1:])] = Counted(*numbers)
        else:
            book.counters.setdefault(scope, {})[window] = Counted(*numbers)
    return book


def is_kept(window: str, oldest: tuple[str, str]) -> bool:
    """Whether the book is sure to have a window, where these are the oldest that it has."""
    return all(window >= each for each in oldest if window[0] == each[0])


def parse_holding(packed: str, is_task: bool) -> Holding:
    """What is held, from a field of the reservations or of the open steps."""
    amount, tokens, requests, rest = packed.split(",", 3)
    names = json.loads(rest.partition("\n")[0])
    scopes = (ALL, *(f"{kind}:{name}" for kind, name in zip(SCOPE_KINDS, names, strict=True)))
    return Holding(scopes, Held(int(amount), int(tokens), int(requests), int(is_task)))


def held_by_scope(holdings: Iterable[Holding]) -> dict[str, Held]:
    """What the book has to say of each scope, where these are all."""
    sums: defaultdict[str, Held] = defaultdict(Held)
    for holding in holdings:
        for scope in holding.scopes:
            sums[scope] = _plus(sums[scope], holding.held)
    return dict(sums)


def _plus(one: Held, other: Held) -> Held:
    return Held(*(a + b for a, b in zip(one, other, strict=True)))
