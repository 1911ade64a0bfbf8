"""The keys of the providers for people: which serve, what they spend, how many calls each takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fleet.models.keys import DeclaredKey, ProviderKeys
from fleet.models.rules.concurrency import Pace, places
from fleet.models.rules.learning import WHOLE_KEY, ModelFacts
from fleet.models.store import ModelState


class CallsInFlight(NamedTuple):
    """The calls of a model with a key, and how many there may be at once; None if its provider has
    refused none yet, and the configuration has no bound."""

    model: str
    in_flight: int
    allowed: int | None


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One key. `state` is `ready` or `cooling down`, then for `seconds` after `reason`, with all of
    its models or with those in `cooling`. Nano-dollars are those of this UTC day."""

    key: DeclaredKey
    state: str
    reason: str
    seconds: float
    cooling: tuple[str, ...]
    spent_nanodollars: int
    calls: tuple[CallsInFlight, ...]


def key_lines(
    keys: ProviderKeys, state: ModelState, facts: ModelFacts, now: float
) -> list[KeyLine]:
    """The available keys, by provider. `now` is in seconds since 1970 by Redis's clock."""
    found = [key for provider in keys.providers for key in keys.of(provider)]
    used = state.key_facts([key.id for key in found])
    return [_line(key, each, facts, now) for key, each in zip(found, used, strict=True)]


def _line(key: DeclaredKey, used: Mapping[str, str], facts: ModelFacts, now: float) -> KeyLine:
    cooling = {
        model: each
        for (key_id, model), each in facts.cooldowns.items()
        if key_id == key.id and each.until > now
    }
    whole = cooling.get(WHOLE_KEY)
    longest = whole or max(cooling.values(), key=lambda each: each.until, default=None)
    today = datetime.fromtimestamp(now, UTC).strftime("d%Y%m%d")
    return KeyLine(
        key,
        "cooling down" if longest else "ready",
        longest.reason if longest else "",
        longest.until - now if longest else 0.0,
        () if whole else tuple(sorted(cooling)),
        int(used.get("spent", 0)) if used.get("day") == today else 0,
        tuple(_calls(key, used)),
    )


def _calls(key: DeclaredKey, used: Mapping[str, str]) -> Iterator[CallsInFlight]:
    for field in sorted(used):
        kind, _, model = field.partition("|")
        if kind == "n":
            pace = pace_of(used.get(f"pace|{model}", ""))
            is_bound = pace.cut_ms or key.concurrency is not None
            allowed = places(pace, key.concurrency) if is_bound else None
            yield CallsInFlight(model, int(used[field]), allowed)


def pace_of(packed: str) -> Pace:
    """What is known of a key with a model, from the form of `lua/parts/key_places.lua`."""
    if not packed:
        return Pace()
    limit, cut_ms, answers, mean_ms, total, *times = map(float, packed.split(","))
    return Pace(limit, cut_ms, int(answers), mean_ms, int(total), *times)


def keys_json(lines: Iterable[KeyLine]) -> list[dict[str, Any]]:
    """The keys for programs, without their values."""
    return [
        {
            "provider": line.key.provider,
            "key": line.key.name,
            "id": line.key.id,
            "secret": line.key.secret,
            "share": line.key.share,
            "state": line.state,
            "reason": line.reason,
            "cools_down_seconds": line.seconds,
            "cooling_models": list(line.cooling),
            "spent_nanodollars": line.spent_nanodollars,
            "daily_nanodollars": line.key.daily_nanodollars,
            "calls": [each._asdict() for each in line.calls],
        }
        for line in lines
    ]
