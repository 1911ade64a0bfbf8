"""Staffing by the work that comes in, a safety margin of its square root, and the backlog.

With Poisson arrivals and a slot for each task, the number of running tasks is Poisson with mean and
variance a = rate x mean service. So a + b x sqrt(a) slots suffice at almost all times: square-root
staffing (A. K. Erlang 1924; W. Whitt, Understanding the efficiency of multi-server service systems,
1992).
"""

from __future__ import annotations

from math import ceil, sqrt

from fleet.scaling.rules.demand import Rate, arrival_rate, offered_slots
from fleet.scaling.rules.values import PoolLoad, Wanted

MARGIN = 2.0
"""Standard deviations above the mean: a Poisson number exceeds them in some 3 % of the time."""
HOLD_SECONDS = 10.0
"""The shortest hold time: two decisions."""


def square_root(load: PoolLoad) -> Wanted:
    """Rate x mean service, twice its square root, and the slots that clear the backlog."""
    return staffed(load, arrival_rate(load.recent))


def staffed(load: PoolLoad, rate: Rate) -> Wanted:
    """The workers for a rate, and for the tasks that already wait."""
    offered = offered_slots(load, rate.per_second)
    margin = MARGIN * sqrt(offered)
    reasons = [_offered(load, rate, offered, margin)]
    slots = offered + margin
    if load.running > slots:
        slots = load.running
        reasons.append(f"{_tasks(load.running)} run, so no fewer slots than those")
    if load.queued:
        extra = load.queued * share_at_once(load)
        slots += extra
        reasons.append(f"{_tasks(load.queued)} wait: {extra:.1f} slots more to clear them")
    workers = ceil(slots / load.slots - 1e-9)
    per_worker = f" of {load.slots} slots" if load.slots > 1 else ""
    reasons.append(f"{slots:.1f} slots are {workers} workers{per_worker}")
    return Wanted(workers, tuple(reasons))


def share_at_once(load: PoolLoad) -> float:
    """The slots to add for each waiting task.

    The backlog should be gone one start-up time after the new workers are ready. In that time a
    slot runs as many tasks one after another as fit into it.
    """
    if not load.service.tasks:
        return 1.0
    return min(1.0, load.service.mean / max(load.start_seconds, load.service.mean, 1e-9))


def hold_seconds(load: PoolLoad) -> float:
    """How long a size is kept before a scale-in.

    A worker that ends too early costs twice its start-up time: the new one is paid and the task
    waits. One that ends too late costs the time that it idles. Who idles for as long as the mistake
    would cost pays at most twice what the best choice in hindsight does (the ski-rental bound).
    """
    return max(HOLD_SECONDS, 2 * load.start_seconds)


def _offered(load: PoolLoad, rate: Rate, offered: float, margin: float) -> str:
    if load.service.tasks:
        counted = f"{rate.per_second:.3g} tasks per second (last {rate.seconds:.0f} s)"
        work = f"{counted} x {load.service.mean:.3g} s"
    else:
        work = f"no task has ended yet; {_tasks(load.running + load.queued)} running or waiting"
    return f"{work} = {offered:.1f} slots, + {MARGIN:g} x square root = {offered + margin:.1f}"


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
