"""The sides: how each sends a task. What runs it is in `crew.py`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

from submit import make_fleet

from balancing_parts.crew import SHARED_QUEUE, SLEEPER
from balancing_parts.load import Pool
from fleet import Fleet

Send = Callable[[int, float], object]
"""Sends a task, given as its number and its work in seconds."""


def fleet_of(pools: Sequence[Pool], folder: Path, url: str) -> Fleet:
    """A fleet of these pools with every other setting left at its default."""
    sys.path.insert(0, str(SLEEPER))
    fleet = make_fleet(folder, url, _config(pools))
    # As the stock workers have it.
    os.environ["FLEET_LOG_LEVEL"] = "warning"
    return fleet


def _config(pools: Sequence[Pool]) -> str:
    tables = [
        "[agent_types.sleeper]",
        '[request_types.nap]\nagent_type = "sleeper"',
        "[compatibility.nap]\nsleeper = 1.0",
    ]
    tables += [
        f'[pools.{pool.name}]\nagent_type = "sleeper"\nslots = {pool.slots}' for pool in pools
    ]
    return "\n\n".join(tables)


def fleet_sends(fleet: Fleet) -> Send:
    return lambda number, work: fleet.submit("nap", {"number": number, "work": work})


def stock_sends(url: str, queues: Iterator[str]) -> Send:
    """Stock Celery, to one queue after the other."""
    from sleeper import stock

    stock.app.conf.broker_url = url
    return lambda number, work: stock.nap.apply_async((number, work), queue=next(queues))


def in_turn(pools: Sequence[Pool]) -> Iterator[str]:
    """Round robin: to each queue the same share."""
    return cycle([pool.name for pool in pools])


def by_capacity(pools: Sequence[Pool]) -> Iterator[str]:
    """Smooth weighted round robin: to each queue its share of what all can do.

    It knows the pools' speeds, which nobody tells Fleet. The method is that of nginx: add to
    each its weight, send to the highest, take the sum of weights off it.
    """
    total = sum(pool.capacity for pool in pools)
    standing = {pool.name: 0.0 for pool in pools}
    while True:
        for pool in pools:
            standing[pool.name] += pool.capacity
        chosen = max(standing, key=lambda name: standing[name])
        standing[chosen] -= total
        yield chosen


def to_shared() -> Iterator[str]:
    """All to one queue that every worker takes from, which no balancing can beat by much."""
    return cycle([SHARED_QUEUE])
