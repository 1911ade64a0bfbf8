"""What a worker writes down of each run, for the tests that break things: one line for each event.

    begun TASK RUN PID MOMENT       the run has begun
    done TASK RUN PID MOMENT        its effect: what the work was for
    stopped TASK RUN PID MOMENT     it ended before: cancelled, refused or failed

A line is one short append, so that those of many processes stay whole, also when one is killed. The
moment is of the clock that all processes of a machine share and that nobody sets.
"""

from __future__ import annotations

import os
import time
from functools import cache


def note(event: str, task: str, run: str) -> None:
    line = f"{event} {task} {run} {os.getpid()} {time.monotonic()!r}\n"
    os.write(_diary(), line.encode())


@cache
def _diary() -> int:
    return os.open(os.environ["LABOR_DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
