"""Several processes that do one thing at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from fleet import Fleet

PATIENCE = 120.0


def at_once(processes: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `work(ready, *arguments)` in several processes and return all results. `ready.wait()`
    waits for all processes.

    All are forks of one process that has imported Fleet. An import in each would take seconds.
    """
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([Fleet.__module__, "pytest"])
    ready, found = forks.Barrier(processes), forks.Queue()
    started = [
        forks.Process(target=_put, args=(found, work, ready, *arguments)) for _ in range(processes)
    ]
    for each in started:
        each.start()
    answers = [found.get(timeout=PATIENCE) for _ in started]
    for each in started:
        each.join(PATIENCE)
    return answers


def _put(found: Any, work: Callable[..., Any], *arguments: Any) -> None:
    found.put(work(*arguments))
