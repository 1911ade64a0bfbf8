"""When a pool is taken out of the rotation, and how it comes back.

    in --(outlier)--> ejected --(time is up)--> on probation --(good probes)--> coming back --> in
                         ^                            |                             |
                         +--------(a probe fails, for twice the time)---------------+

An ejected pool gets nothing. On probation it gets a task or two at a time. Then its slots are
opened by degrees, in proportion to the time since. The rules are Envoy's outlier detection
and slow start, with one more: a pool is ejected only where its peers do better, for where
all fail alike the pools are not the cause.

`judge` says who is an outlier. The rest of the circle is in `redis/lua/parts/health.lua`, since
it has to happen together with the count of an outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from fleet.routing.rules.pools import IN
from fleet.routing.rules.statistics import Statistic

EJECTED, PROBATION, RETURNING = "ejected", "probation", "returning"
MAINTENANCE = "maintenance"
OWN_WORK = "own_work"
"""The standing of a helper towards others' tasks while it has some of its own."""
MAX_LOAD = 0.8
"""A pool that is not hopeless is taken out only where the others' slots get no fuller than this."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When a pool is an outlier, and its way back. Times in seconds.

    `failures_in_row` at once; a success rate under `least_success` that is also `worse_by`
    under the median of its peers; a typical response time over `slow_factor` times the median
    of its peers'. The last two want `least_outcomes`. At most `most_ejected` of the live pools
    of an agent type are out at a time, and never the last one; and a pool that still succeeds
    with `least_success` only while the others' slots suffice for all tasks in flight. Pools of
    one type may get work of different weight, so `slow_factor` leaves room for that.
    """

    failures_in_row: int = 5
    least_success: float = 0.6
    worse_by: float = 0.2
    slow_factor: float = 5.0
    least_outcomes: int = 20
    most_ejected: float = 0.5
    eject_seconds: float = 30.0
    most_eject_seconds: float = 300.0
    probes: int = 1
    good_probes: int = 3
    ramp_seconds: float = 60.0


class PoolHealth(NamedTuple):
    """A pool as `judge` sees it: is it in the rotation, and how did it do of late.

    `in_flight` are the tasks in its slots, `open_slots` those that it may fill.
    """

    pool: str
    live_agents: int
    standing: str
    statistic: Statistic
    in_flight: int = 0
    open_slots: int = 0


class Ejection(NamedTuple):
    """A pool to take out, and why, as a phrase without commas or semicolons."""

    pool: str
    reason: str


def judge(pools: Sequence[PoolHealth], policy: HealthPolicy) -> list[Ejection]:
    """The pools of one agent type that shall be taken out now, the worst first."""
    live = [pool for pool in pools if pool.live_agents > 0]
    standing = [pool for pool in live if pool.standing in (IN, RETURNING)]
    out = len(live) - len(standing)
    # Half of two or three pools is one: rounded down, but for one where there are peers at all.
    most = max(1, int(len(live) * policy.most_ejected)) if policy.most_ejected else 0
    room = min(most - out, len(standing) - 1)
    outliers = []
    for pool in standing:
        peers = [peer.statistic for peer in standing if peer is not pool]
        reason = _outlying(pool.statistic, peers, policy)
        if reason:
            outliers.append((pool, reason))
    outliers.sort(key=lambda each: (each[0].statistic.success_rate, each[0].pool))
    return list(_dispensable(live, outliers, policy))[: max(0, room)]


def needed(pools: Sequence[PoolHealth], waiting: int, policy: HealthPolicy) -> list[str]:
    """The pools of one agent type that are out and shall be put back now.

    All live ones where none is in: a bad pool is better than none. Else those that are not
    hopeless, where the others' slots do not suffice any more: `waiting` tasks found none.
    """
    live = [pool for pool in pools if pool.live_agents > 0]
    out = [pool for pool in live if pool.standing in (EJECTED, PROBATION)]
    if not any(pool.standing in (IN, RETURNING) for pool in live):
        return [pool.pool for pool in out]
    return [pool.pool for pool in out if waiting and not _hopeless(pool, policy)]


def _hopeless(pool: PoolHealth, policy: HealthPolicy) -> bool:
    return pool.statistic.success_rate < policy.least_success


def _dispensable(
    live: Sequence[PoolHealth], outliers: Sequence[tuple[PoolHealth, str]], policy: HealthPolicy
) -> Iterator[Ejection]:
    """Those of the outliers that are hopeless, or whose slots the fleet can do without now."""
    busy = sum(pool.in_flight for pool in live)
    slots = sum(pool.open_slots for pool in live)
    for pool, reason in outliers:
        left = slots - pool.open_slots
        if _hopeless(pool, policy) or busy <= MAX_LOAD * left:
            slots = left
            yield Ejection(pool.pool, reason)


def said(standing: str, because: str, openings: int) -> str:
    """Why a pool with this standing takes nothing more, as a phrase for people."""
    if standing == MAINTENANCE:
        return "in maintenance"
    if standing == OWN_WORK:
        return "has work of its own, and helps others only without"
    if standing == PROBATION:
        return f"on probation with {openings} at a time: {because}"
    if standing == RETURNING:
        return f"coming back by degrees, with {openings} slots open: {because}"
    return f"{standing}: {because}"


def _outlying(own: Statistic, peers: Sequence[Statistic], policy: HealthPolicy) -> str:
    """Why this statistic is out of line with its peers'; empty where it is not."""
    if own.failures_in_row >= policy.failures_in_row and not _fail_too(peers, policy):
        return f"{own.failures_in_row} failures in a row"
    if own.outcomes < policy.least_outcomes:
        return ""
    known = [peer for peer in peers if peer.outcomes]
    usual = _median(peer.success_rate for peer in known)
    if usual is None:
        return ""
    if own.success_rate < policy.least_success and own.success_rate <= usual - policy.worse_by:
        return f"success rate {own.success_rate:.0%} where its peers have {usual:.0%}"
    quick = _median(peer.typical_seconds for peer in known)
    if quick and own.typical_seconds > policy.slow_factor * quick:
        return f"response time {own.typical_seconds:.1f} s where its peers have {quick:.1f} s"
    return ""


def _fail_too(peers: Sequence[Statistic], policy: HealthPolicy) -> bool:
    """Whether every peer fails in the same way: then it is the work, or what all depend on."""
    return bool(peers) and all(
        peer.failures_in_row >= policy.failures_in_row for peer in peers
    )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
