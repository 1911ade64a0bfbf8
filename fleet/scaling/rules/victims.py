"""Which workers start, leave and come back when the size of a pool changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple


class Worker(NamedTuple):
    """A worker that is ready, as the choice sees it.

    `started` in seconds since 1970. `left` is how many seconds its running tasks still take, as far
    as one can tell; 0 without any. `draining` workers take no new tasks.
    """

    id: str
    started: float
    running: int = 0
    left: float = 0.0
    draining: bool = False


class Change(NamedTuple):
    """What makes a pool the size that it should have. All empty: nothing to do.

    `start`: how many workers to start. `cancel`: how many of those not yet ready to end. `drain`
    and `take_back`: ids, the first to drain or take back first.
    """

    start: int
    cancel: int
    drain: tuple[str, ...]
    take_back: tuple[str, ...]


def change(workers: Collection[Worker], starting: int, size: int) -> Change:
    """What makes `size` workers of those that are ready or draining and `starting` others.

    To grow, draining workers are taken back before any is started. To shrink, those that are not
    ready yet go first, since they run nothing; then the victims are drained.
    """
    taking = [worker for worker in workers if not worker.draining]
    missing = size - len(taking) - starting
    if missing >= 0:
        back = reprieves(workers)[:missing]
        return Change(missing - len(back), 0, (), back)
    cancel = min(starting, -missing)
    return Change(0, cancel, victims(taking)[: -missing - cancel], ())


def victims(workers: Iterable[Worker]) -> tuple[str, ...]:
    """All ids, the first to drain first: idle, then by least left to finish, the oldest first."""
    return tuple(worker.id for worker in sorted(workers, key=_ending))


def reprieves(workers: Iterable[Worker]) -> tuple[str, ...]:
    """The ids of draining workers, the first to take back first: the last that would end."""
    draining = (worker for worker in workers if worker.draining)
    return tuple(worker.id for worker in sorted(draining, key=_ending, reverse=True))


def _ending(worker: Worker) -> tuple[bool, float, float, str]:
    return worker.running > 0, worker.left if worker.running else 0.0, worker.started, worker.id
