"""Whether and when a process that died is restarted, and the names of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The wait is `first_seconds` and doubles with each death in the last `window_seconds`. After
    `max_deaths` of them the process is not restarted."""

    first_seconds: float = 0.5
    max_deaths: int = 5
    window_seconds: float = 60.0


def pool_of(process: str) -> str:
    """The pool of a worker by its name: `codegen.2` is the second of codegen."""
    return process.rpartition(".")[0]


def wait_before_restart(
    deaths: Sequence[float], now: float, policy: RestartPolicy
) -> float | None:
    """Seconds to wait after the last death of a process, or None if it must not be restarted.
    `deaths` and `now` are seconds of one clock."""
    recent = sum(now - death <= policy.window_seconds for death in deaths)
    if recent >= policy.max_deaths:
        return None
    return float(policy.first_seconds * 2 ** max(0, recent - 1))
