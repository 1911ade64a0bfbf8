"""The policies by name, and what holds for every one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from math import ceil, floor
from types import MappingProxyType

from fleet.scaling.rules.demand import arrival_rate, offered_slots
from fleet.scaling.rules.forecast import forecast
from fleet.scaling.rules.square_root import hold_seconds, square_root
from fleet.scaling.rules.threshold import threshold
from fleet.scaling.rules.values import (
    MAX_HOLD_SECONDS,
    PoolLoad,
    ScaleDecision,
    ScalingPolicy,
)

Limited = tuple[int, str]
"""Workers, and the reason if a limit changed their number."""

MAX_AGE_SECONDS = 30.0
"""Figures older than this decide nothing: the last size holds."""


def decide(load: PoolLoad, policy: ScalingPolicy) -> ScaleDecision:
    """What a policy wants, within what holds for every policy.

    Stale figures hold the last size. Tasks that wait need at least one worker. A scale-in waits for
    the policy's hold time. Then the limits apply in this order: what idle workers may cost, what
    the provider allows, max and min. Without money there is no scale-up.
    """
    if load.age > MAX_AGE_SECONDS:
        reason = (
            f"the figures are {load.age:.0f} s old, more than {MAX_AGE_SECONDS:.0f} s: "
            f"the last size of {load.desired} holds"
        )
        return ScaleDecision(load.pool, load.desired, policy.name, (reason,), load.desired)
    workers, reasons = policy.decide(load)
    found = list(reasons)
    if workers < 1 and load.queued:
        workers = 1
        found.append(f"waiting tasks: {load.queued}; they need at least one worker")
    wanted = workers
    for limit in (_held(policy), _idle_cost, _provider, _bounds, _money):
        workers, reason = limit(load, workers)
        if reason:
            found.append(reason)
    return ScaleDecision(load.pool, workers, policy.name, tuple(found), wanted)


def _held(policy: ScalingPolicy) -> Callable[[PoolLoad, int], Limited]:
    """Scale in to the most that was wanted in the hold time, and no further."""

    def held(load: PoolLoad, workers: int) -> Limited:
        seconds = min(policy.hold(load), MAX_HOLD_SECONDS)
        late = takewhile(lambda each: each.at > load.now - seconds, reversed(load.history))
        most = max((each.workers for each in late), default=0)
        size = max(workers, min(most, load.desired))
        if size == workers:
            return workers, ""
        return size, f"{size} were wanted in the last {seconds:.0f} s: held, not {workers}"

    return held


def _idle_cost(load: PoolLoad, workers: int) -> Limited:
    if load.idle_usd_per_hour is None or load.worker_usd_per_hour <= 0:
        return workers, ""
    idle = floor(load.idle_usd_per_hour / load.worker_usd_per_hour + 1e-9)
    offered = offered_slots(load, arrival_rate(load.recent).per_second)
    busy = ceil(max(load.running + load.queued, offered) / load.slots - 1e-9)
    if workers <= busy + idle:
        return workers, ""
    return busy + idle, (
        f"{busy} workers have work, and ${load.idle_usd_per_hour:g} an hour pays for {idle} idle "
        f"ones at ${load.worker_usd_per_hour:g}: {busy + idle}, not {workers}"
    )


def _provider(load: PoolLoad, workers: int) -> Limited:
    if load.provider_slots is None:
        return workers, ""
    most = ceil(load.provider_slots / load.slots)
    if workers <= most:
        return workers, ""
    return most, (
        f"the provider allows {load.provider_slots} calls at once, so more than {most} workers "
        f"of {load.slots} slots do not help: not {workers}"
    )


def _bounds(load: PoolLoad, workers: int) -> Limited:
    if workers > load.max:
        return load.max, f"max of the pool is {load.max}: not {workers}"
    if workers < load.min:
        return load.min, f"min of the pool is {load.min}: not {workers}"
    return workers, ""


def _money(load: PoolLoad, workers: int) -> Limited:
    if not load.out_of_money or workers <= load.desired:
        return workers, ""
    return load.desired, f"no scale-up from {load.desired} to {workers}: {load.out_of_money}"


def _no_hold(_load: PoolLoad) -> float:
    return 0.0


THRESHOLD = ScalingPolicy(
    "threshold",
    "one worker more over a mean load of 0.8, one less under 0.2, once a minute",
    threshold,
    _no_hold,
)
SQUARE_ROOT = ScalingPolicy(
    "square_root",
    "arrival rate x mean service + 2 x its square root + what clears the backlog",
    square_root,
    hold_seconds,
)
FORECAST = ScalingPolicy(
    "forecast",
    "square_root, and the rate that the same time of other days lets expect",
    forecast,
    hold_seconds,
)
POLICIES: Mapping[str, ScalingPolicy] = MappingProxyType(
    {policy.name: policy for policy in (THRESHOLD, SQUARE_ROOT, FORECAST)}
)
"""Fleet's own policies by name."""
