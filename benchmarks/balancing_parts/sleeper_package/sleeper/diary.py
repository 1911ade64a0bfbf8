"""What a worker writes down of each task: its number, its pool, when it began and ended."""

from __future__ import annotations

import os
import time
from functools import cache


def seconds_here(work: float) -> float:
    """How long a piece of work takes in this worker's pool."""
    return work / float(os.environ["SLEEPER_SPEED"])


def note(number: int, started: float) -> None:
    """Write a task that ends now. One short append, so that lines of many workers stay whole."""
    pool = os.environ["SLEEPER_POOL"]
    os.write(_diary(), f"{number} {pool} {started!r} {time.time()!r}\n".encode())


@cache
def _diary() -> int:
    return os.open(os.environ["SLEEPER_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
