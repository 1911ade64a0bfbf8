"""What a scaling policy may know about a pool, and its answer.

The production job and the simulator fill in the same values and ask the same policies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Arrivals(NamedTuple):
    """How many tasks arrived in each of several equal intervals, the oldest first.

    `interval` in seconds. The last interval ended at `ended`, in seconds since 1970, and is
    complete.
    """

    interval: float
    ended: float
    counts: tuple[int, ...]


class ServiceTime(NamedTuple):
    """How long a task occupies a slot: mean in seconds, variance in s², and from how many tasks."""

    mean: float
    variance: float
    tasks: int


class Sized(NamedTuple):
    """A former decision: when it was made, in seconds since 1970, and how many workers it wanted.

    `workers` is `ScaleDecision.wanted`, before the hold time and the bounds. With the held size
    here, a pool would be held for ever.
    """

    at: float
    workers: int


MAX_HOLD_SECONDS = 600.0
"""The longest time for which a size is kept before a scale-in."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What is known about one pool at one moment, by Redis's clock.

    Times in seconds, amounts in US dollars, tasks and workers as counts.
    """

    pool: str
    now: float
    #: How many seconds ago the oldest of these figures was measured.
    age: float
    min: int
    max: int
    slots: int
    #: The size last decided. It holds where nothing newer is known.
    desired: int
    #: What was wanted by the decisions of the last `MAX_HOLD_SECONDS`, the newest last.
    history: tuple[Sized, ...]
    #: Workers that take tasks, that were started and are not ready, and that are drained to end.
    ready: int
    starting: int
    draining: int
    running: int
    #: Waiting in the pool's own queue, and its share of the overflow queue.
    queued: int
    oldest_seconds: float
    on_hold: int
    #: A few minutes in short intervals, best of 5 s, and a week or two in long ones, best of 300 s:
    #: the policies take any lengths, but notice a burst, and place a forecast one, by these.
    recent: Arrivals
    long_term: Arrivals
    service: ServiceTime
    #: From the start of a worker until it takes tasks, as measured on this fleet.
    start_seconds: float
    #: Why nothing may be spent now, such as "Budget exceeded for ...". '' if money is left.
    out_of_money: str = ""
    #: How many calls at once the pool's provider allows, learned from its refusals. None: unknown.
    provider_slots: int | None = None
    #: What a worker costs for an hour, and what idle workers of the pool may cost for an hour.
    #: None: no limit.
    worker_usd_per_hour: float = 0.0
    idle_usd_per_hour: float | None = None

    @property
    def workers(self) -> int:
        """Workers that take tasks, now or soon."""
        return self.ready + self.starting


class Wanted(NamedTuple):
    """How many workers a policy wants, and why, as sentences."""

    workers: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """How many workers a pool should have, by which policy, and why, as sentences.

    `wanted` is what the policy wanted before the hold time and the bounds. It goes into
    `PoolLoad.history` of the next decisions. Where stale figures hold the last size it equals
    `workers`.
    """

    pool: str
    workers: int
    policy: str
    reasons: tuple[str, ...]
    wanted: int


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """A policy by name. `decide` is pure: the same load gives the same answer.

    The bounds that hold for every policy (min, max, money, provider, stale figures, hold time) are
    applied by `fleet.scaling.rules.policies.decide` to what this function wants. `hold` gives the
    seconds for which a size is kept before a scale-in, at most `MAX_HOLD_SECONDS`.
    """

    name: str
    description: str
    decide: Callable[[PoolLoad], Wanted]
    hold: Callable[[PoolLoad], float]
