"""How others would scale the same pool: KEDA on a queue, and an oracle that knows the future."""

from __future__ import annotations

from math import ceil

import numpy as np

from fleet.scaling.rules.simulation import Conditions, Trace
from fleet.scaling.rules.values import PoolLoad, ScalingPolicy, Wanted

POLL_SECONDS = 30.0
STABILISATION_SECONDS = 300.0


def keda_queue(load: PoolLoad) -> Wanted:
    """A worker for each worker's slots of waiting tasks: KEDA's Redis trigger on the queue."""
    return Wanted(ceil(load.queued / load.slots), (f"{load.queued} wait",))


def keda_present(load: PoolLoad) -> Wanted:
    """The same on waiting and running tasks together."""
    present = load.queued + load.running
    return Wanted(ceil(present / load.slots), (f"{present} wait or run",))


def _stabilisation(load: PoolLoad) -> float:
    return STABILISATION_SECONDS


KEDA = ScalingPolicy("KEDA, queue", "", keda_queue, _stabilisation)
KEDA_PRESENT = ScalingPolicy("KEDA, queue + running", "", keda_present, _stabilisation)


def oracle(trace: Trace, conditions: Conditions) -> ScalingPolicy:
    """Starts a worker just before it is needed, and ends it when it is needed no longer.

    The need is the number of tasks that would run if none ever waited.
    """
    times = np.concatenate([trace.arrival, trace.arrival + trace.service])
    steps = np.repeat([1, -1], len(trace.arrival))
    order = np.argsort(times, kind="stable")
    times, present = times[order], np.cumsum(steps[order])
    step = conditions.decide_seconds
    ticks = np.arange(0.0, times[-1] + 2 * step + conditions.start_seconds, step)
    edges = np.searchsorted(times, ticks)
    # The most at once in each interval, counting those present when it begins.
    most = np.maximum.reduceat(np.append(present, 0), np.minimum(edges, len(present)))
    most = np.maximum(most, np.append(0, present)[edges])
    ahead = ceil(conditions.start_seconds / step) + 1
    need = np.lib.stride_tricks.sliding_window_view(np.append(most, [0] * ahead), ahead + 1)
    wanted = need.max(axis=1)

    def decide(load: PoolLoad) -> Wanted:
        number = min(round(load.now / step), len(wanted) - 1)
        return Wanted(ceil(int(wanted[number]) / load.slots), ("it knows",))

    return ScalingPolicy("oracle", "", decide, lambda load: 0.0)
