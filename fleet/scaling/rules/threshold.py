"""The reference policy: one worker more or less, once a minute."""

from __future__ import annotations

from fleet.scaling.rules.values import PoolLoad, Wanted

PERIOD_SECONDS = 60.0
BUSY = 0.8
IDLE = 0.2


def threshold(load: PoolLoad) -> Wanted:
    """One more over a mean load of 0.8; one less under 0.2, and never under one.

    Acts on the first decision of each minute. The load of a worker is its running tasks over its
    slots.
    """
    now = load.desired
    if load.history and load.history[-1].at // PERIOD_SECONDS == load.now // PERIOD_SECONDS:
        return Wanted(now, (f"{_workers(now)}; the next change is possible in the next minute",))
    if not load.ready:
        return Wanted(now, ("no worker is ready, so there is no load to go by",))
    mean = load.running / (load.ready * load.slots)
    measured = f"mean load {mean:.2f} of {_workers(load.ready)}"
    if mean > BUSY:
        return Wanted(now + 1, (f"{measured} is over {BUSY:g}: one more",))
    if mean < IDLE and now > 1:
        return Wanted(now - 1, (f"{measured} is under {IDLE:g}: one less",))
    if mean < IDLE:
        return Wanted(now, (f"{measured} is under {IDLE:g}, and one is the fewest",))
    return Wanted(now, (f"{measured} is from {IDLE:g} to {BUSY:g}: no change",))


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
