"""Whether and when a process that died is started again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The wait begins with `first_seconds` and doubles with each death that is remembered, which
    it is for `window_seconds`. The last of `max_deaths` is the end."""

    first_seconds: float = 0.5
    max_deaths: int = 5
    window_seconds: float = 60.0


def wait_before_restart(
    deaths: Sequence[float], now: float, policy: RestartPolicy
) -> float | None:
    """Seconds to wait after the newest of a process's deaths, or None where it dies again and
    again. `deaths` and `now` are seconds of one clock."""
    recent = sum(now - death <= policy.window_seconds for death in deaths)
    if recent >= policy.max_deaths:
        return None
    return float(policy.first_seconds * 2 ** max(0, recent - 1))
