"""Batches the reads of secrets of a process, so that no model call waits for the audit.

A process notes each read in memory and appends them together, once a minute and when it exits: one
entry of the chain, whose `reads` is JSON:

    [{"path", "version", "what", "outcome", "times", "first_ms_ago", "last_ms_ago"}, ...]

Equal reads are counted in one row. A row's time is the entry's own, by Redis's clock, less the
milliseconds that it names, by the process's monotonic clock.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fleet.audit.log import AuditLog
from fleet.audit.origin import origin_here
from fleet.errors import FleetError
from fleet.hooks import weakly
from fleet.telemetry.logger import get_logger

SECONDS = 60.0
"""How long a read waits in memory at most, while Redis answers."""
MAX_ROWS = 1000
"""Different reads that wait while Redis is away. Further ones are counted alone."""

log = get_logger(__name__)


class Read(NamedTuple):
    """What is read: `what` says how, such as `read` from a store or `use` from memory; `outcome`
    is `ok` or the name of an error."""

    path: str
    version: int
    what: str
    outcome: str


@dataclass(slots=True)
class _Count:
    times: int
    first: float
    last: float


class ReadLog:
    """Notes reads of secrets for the audit. Threads may share it. `by` names the reader: an agent's
    id, or empty for the operating system's user."""

    def __init__(
        self,
        audit: AuditLog,
        by: str = "",
        seconds: float = SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._audit = audit
        self._by = by
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._rows: dict[Read, _Count] = {}
        self._dropped = 0
        self._timer: threading.Timer | None = None
        self._is_closed_at_exit = False
        os.register_at_fork(after_in_child=weakly(self.forked))

    def forked(self) -> None:
        """Begin anew in a forked child: its parent appends what the parent has noted."""
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._rows, self._dropped, self._timer = {}, 0, None

    def note(self, path: str, version: int, what: str = "read", outcome: str = "ok") -> None:
        """Note a read. Never waits for Redis, and never raises an error of it."""
        read, now = Read(path, version, what, outcome), self._monotonic()
        with self._lock:
            found = self._rows.get(read)
            if found:
                found.times, found.last = found.times + 1, now
            elif len(self._rows) < MAX_ROWS:
                self._rows[read] = _Count(1, now, now)
            else:
                self._dropped += 1
            self._start_timer()

    def _start_timer(self) -> None:
        """Flush after a while that differs by process, so that a fleet that starts together does
        not write together."""
        if not self._is_closed_at_exit:
            atexit.register(weakly(self.close))
            self._is_closed_at_exit = True
        if self._timer is None:
            self._timer = threading.Timer(self._seconds * random.uniform(0.5, 1), self._timed)
            self._timer.daemon = True
            self._timer.start()

    def _timed(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except FleetError as error:
            log.warning("reads of secrets wait for the audit", error=str(error))
            with self._lock:
                self._start_timer()

    def flush(self) -> int:
        """Append what is noted and return the number of rows. Raises `Unavailable`, and keeps what
        is noted then. One call to Redis, or none."""
        with self._flushing:
            with self._lock:
                rows, self._rows = self._rows, {}
                dropped, self._dropped = self._dropped, 0
            if not rows and not dropped:
                return 0
            try:
                self._append(rows, dropped)
            except BaseException:
                self._take_back(rows, dropped)
                raise
        return len(rows)

    def _append(self, rows: dict[Read, _Count], dropped: int) -> None:
        now, origin = self._monotonic(), origin_here(self._by)
        reads = [
            {
                **read._asdict(),
                "times": count.times,
                "first_ms_ago": round((now - count.first) * 1000),
                "last_ms_ago": round((now - count.last) * 1000),
            }
            for read, count in rows.items()
        ]
        facts = {"reads": json.dumps(reads), **origin._asdict()}
        self._audit.append("reads", facts | ({"not_listed": str(dropped)} if dropped else {}))

    def _take_back(self, rows: dict[Read, _Count], dropped: int) -> None:
        with self._lock:
            for read, new in self._rows.items():
                old = rows.get(read)
                rows[read] = _Count(old.times + new.times, old.first, new.last) if old else new
            self._rows = rows
            self._dropped += dropped

    def close(self) -> None:
        """Append what is noted, at the end of the process. Errors are logged alone."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer:
            timer.cancel()
        try:
            self.flush()
        except FleetError as error:
            log.warning("reads of secrets are missing in the audit", error=str(error))
