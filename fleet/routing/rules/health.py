"""When a pool is ejected from the rotation, and how it returns.

    in --(outlier)--> ejected --(time is up)--> on probation --(good probes)--> coming back --> in
                         ^                            |                             |
                         +--------(a probe fails, for twice the time)---------------+

An ejected pool gets no tasks. On probation it gets a task or two at a time. While it is coming
back its slots open gradually, in proportion to the time since probation. The rules are Envoy's
outlier detection and slow start, with one addition: a pool is ejected only if its peers do better.
If all pools fail alike, the pools are not the cause.

`judge` finds the outliers. The other transitions are in `redis/lua/parts/health.lua`, because they
must happen together with the count of an outcome.
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
"""The health state of a pool with spillover for tasks of other types, while its own tasks wait."""
MAX_LOAD = 0.8
"""A pool that still succeeds is ejected only if the load of the other pools stays within this."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When a pool is an outlier, and how it returns. Times are in seconds.

    A pool is an outlier after `failures_in_row` failures, with a success rate under
    `least_success` that is also `worse_by` under the median of its peers, or with a typical
    response time over `slow_factor` times the median of its peers. The last two need
    `least_outcomes` outcomes. At most the share `most_ejected` of the live pools of an agent type
    is ejected at a time, and never the last pool. A pool with a success rate of `least_success` or
    more is ejected only while the slots of the others suffice for all tasks in flight. Pools of
    one type may get work of different weight: `slow_factor` leaves room for this.
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
    """A pool as `judge` sees it: its health state and its recent outcomes.

    `in_flight` is the number of tasks in its slots, `open_slots` the number of slots it may fill.
    """

    pool: str
    live_agents: int
    health_state: str
    statistic: Statistic
    in_flight: int = 0
    open_slots: int = 0


class Ejection(NamedTuple):
    """A pool to eject, and the reason, as a phrase without commas or semicolons."""

    pool: str
    reason: str


def judge(pools: Sequence[PoolHealth], policy: HealthPolicy) -> list[Ejection]:
    """The pools of one agent type to eject now, the worst first."""
    live = [pool for pool in pools if pool.live_agents > 0]
    rotation = [pool for pool in live if pool.health_state in (IN, RETURNING)]
    out = len(live) - len(rotation)
    # Half of two or three pools is one: rounded down, but at least one if there are peers.
    most = max(1, int(len(live) * policy.most_ejected)) if policy.most_ejected else 0
    room = min(most - out, len(rotation) - 1)
    outliers = []
    for pool in rotation:
        peers = [peer.statistic for peer in rotation if peer is not pool]
        reason = _outlying(pool.statistic, peers, policy)
        if reason:
            outliers.append((pool, reason))
    outliers.sort(key=lambda each: (each[0].statistic.success_rate, each[0].pool))
    return list(_dispensable(live, outliers, policy))[: max(0, room)]


def needed(pools: Sequence[PoolHealth], waiting: int, policy: HealthPolicy) -> list[str]:
    """The pools of one agent type that are ejected and must return to rotation now.

    If no pool is in rotation, these are all live pools: a bad pool is better than none. Otherwise
    these are the pools that still succeed, if `waiting` tasks found no slot elsewhere.
    """
    live = [pool for pool in pools if pool.live_agents > 0]
    out = [pool for pool in live if pool.health_state in (EJECTED, PROBATION)]
    if not any(pool.health_state in (IN, RETURNING) for pool in live):
        return [pool.pool for pool in out]
    return [pool.pool for pool in out if waiting and not _hopeless(pool, policy)]


def _hopeless(pool: PoolHealth, policy: HealthPolicy) -> bool:
    return pool.statistic.success_rate < policy.least_success


def _dispensable(
    live: Sequence[PoolHealth], outliers: Sequence[tuple[PoolHealth, str]], policy: HealthPolicy
) -> Iterator[Ejection]:
    """The outliers that hardly succeed, or whose slots the fleet does not need now."""
    busy = sum(pool.in_flight for pool in live)
    slots = sum(pool.open_slots for pool in live)
    for pool, reason in outliers:
        left = slots - pool.open_slots
        if _hopeless(pool, policy) or busy <= MAX_LOAD * left:
            slots = left
            yield Ejection(pool.pool, reason)


def describe_health(health_state: str, reason: str, openings: int) -> str:
    """Why a pool in this health state takes no more tasks, as a phrase for people."""
    if health_state == MAINTENANCE:
        return "in maintenance"
    if health_state == OWN_WORK:
        return "has tasks of its own waiting, which come before spillover"
    if health_state == PROBATION:
        return f"on probation with {openings} at a time: {reason}"
    if health_state == RETURNING:
        return f"returning to rotation, with {openings} slots open: {reason}"
    return f"{health_state}: {reason}"


def _outlying(own: Statistic, peers: Sequence[Statistic], policy: HealthPolicy) -> str:
    """Why this statistic is an outlier among its peers; empty if it is not."""
    if own.failures_in_row >= policy.failures_in_row and not _fail_too(peers, policy):
        return f"{own.failures_in_row} failures in a row"
    if own.outcomes < policy.least_outcomes:
        return ""
    known = [peer for peer in peers if peer.outcomes]
    usual = _median(peer.success_rate for peer in known)
    if usual is None:
        return ""
    if own.success_rate < policy.least_success and own.success_rate <= usual - policy.worse_by:
        return f"success rate {own.success_rate:.0%} while its peers have {usual:.0%}"
    quick = _median(peer.typical_seconds for peer in known)
    if quick and own.typical_seconds > policy.slow_factor * quick:
        return f"response time {own.typical_seconds:.1f} s while its peers have {quick:.1f} s"
    return ""


def _fail_too(peers: Sequence[Statistic], policy: HealthPolicy) -> bool:
    """Whether every peer fails too: then the cause is the work, or a dependency of all pools."""
    return bool(peers) and all(
        peer.failures_in_row >= policy.failures_in_row for peer in peers
    )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
