"""Shifts the time of day of a Python process by SKEW_SECONDS. Python imports this by itself before
anything else, where the folder is on its path.

Shifted are `time.time`, `time.time_ns`, `time.clock_gettime` of the time of day, and `now`,
`utcnow` and `today` of `datetime.datetime`: all that Fleet, Celery, Kombu and redis-py ask. The
monotonic clock is left as it is, as a clock that is wrong leaves it. What C code asks the system by
itself is not shifted, such as the times of files.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

SKEW = float(os.environ.get("SKEW_SECONDS", "0"))
REAL = datetime.datetime
real_time, real_time_ns, real_clock_gettime = time.time, time.time_ns, time.clock_gettime


def clock_gettime(clock: int) -> float:
    return real_clock_gettime(clock) + (SKEW if clock == time.CLOCK_REALTIME else 0.0)


class AnyDatetime(type):
    """One that C code has made is a datetime, too."""

    def __instancecheck__(cls, found: Any) -> bool:
        return isinstance(found, REAL)


class SkewedDatetime(REAL, metaclass=AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return REAL.now(tz) + datetime.timedelta(seconds=SKEW)

    @classmethod
    def utcnow(cls) -> datetime.datetime:  # type: ignore[override]
        return REAL.utcnow() + datetime.timedelta(seconds=SKEW)

    today = now


time.time = lambda: real_time() + SKEW
time.time_ns = lambda: real_time_ns() + int(SKEW * 1e9)
time.clock_gettime = clock_gettime
datetime.datetime = SkewedDatetime  # type: ignore[misc]
