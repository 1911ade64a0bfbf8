"""Keeps the leases of all tasks that this process runs.

Twice a second one thread asks, of all of them in one step, which are cancelled and which have
passed to another run; those that are due it renews in the same step. A run that must end is told
why, once: `cancelled`, `lost` where the lease has passed to another or was not renewed in time,
or `given_back` where its worker stops and others shall run it.

A lease lasts from when Redis has renewed it, which is after it was asked to. So here its time is
counted from before the question, by a clock that nobody sets. A second thread looks at that alone:
the first may hang in a call to a Redis that does not answer for as long as the socket's time-out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from fleet.tasks.background_loops import repeat
from fleet.tasks.store import Lease, Tasks

Verdict = Literal["cancelled", "lost", "given_back"]

LOOK_SECONDS = 0.5
"""A run that is cancelled hears of it within this, and the time of one call."""

MAX_LOOK_SECONDS = 1.0
"""It asks a Redis that answers with errors no seldomer than this: a lease may be short."""

WATCH_SECONDS = 0.2

MARGIN_SECONDS = 2.0
"""A run stops itself so long before its lease can pass to another, so that two never overlap; a
third of the lease, where that is shorter."""

MAX_AT_ONCE = 100
"""Leases that one script looks at: half a millisecond of Redis's time, more where it renews."""


@dataclass(slots=True)
class Held:
    """A lease in use. Redis was asked at `renewed`, monotonic, for the lease that it has now."""

    lease: Lease
    stop: Callable[[Verdict], None]
    renewed: float
    told: set[Verdict] = field(default_factory=set)

    def tell(self, verdict: Verdict) -> None:
        """Stop the run, unless it was told so before."""
        if verdict not in self.told:
            self.told.add(verdict)
            self.stop(verdict)


class LeaseKeeper:
    """One for each process; `start` it after the fork."""

    def __init__(self, tasks: Tasks, lease_seconds: float, renew_seconds: float) -> None:
        self.tasks = tasks
        self.lease_seconds = lease_seconds
        self.renew_seconds = renew_seconds
        self.max_seconds = lease_seconds - min(MARGIN_SECONDS, lease_seconds / 3)
        self._held: dict[str, Held] = {}
        self._gives_back = False
        self._guard = threading.Lock()

    def start(self) -> None:
        """Begin to keep and to watch, in daemon threads."""
        repeat("lease-keeper", self.look, LOOK_SECONDS, MAX_LOOK_SECONDS).start()
        repeat("lease-watch", self.stop_overdue, WATCH_SECONDS, WATCH_SECONDS).start()

    def hold(self, lease: Lease, stop: Callable[[Verdict], None]) -> None:
        """Keep a lease until `release`. `stop` is called from the keeper's threads."""
        held = Held(lease, stop, lease.asked_at)
        with self._guard:
            self._held[lease.task_id] = held
            gives_back = self._gives_back
        if gives_back:
            held.tell("given_back")

    def release(self, lease: Lease) -> None:
        """Let go of a lease."""
        with self._guard:
            self._held.pop(lease.task_id, None)

    def give_back(self) -> None:
        """Stop every run of this process for others to run, and those that begin from now on."""
        with self._guard:
            self._gives_back = True
        for each in self._all():
            each.tell("given_back")

    def look(self) -> None:
        """One round: stop what is cancelled or lost, renew what is due. Raises what Redis has
        against it."""
        held = self._all()
        for first in range(0, len(held), MAX_AT_ONCE):
            self._look_at(held[first : first + MAX_AT_ONCE])

    def stop_overdue(self) -> None:
        """Stop the runs whose lease could not be renewed, before it can pass to another."""
        now = time.monotonic()
        for each in self._all():
            if now - each.renewed > self.max_seconds:
                each.tell("lost")

    def _look_at(self, held: list[Held]) -> None:
        asked = time.monotonic()
        due = [asked - each.renewed >= self.renew_seconds for each in held]
        leases = [(each.lease, is_due) for each, is_due in zip(held, due, strict=True)]
        statuses = self.tasks.look_at(leases, self.lease_seconds)
        for each, is_due, status in zip(held, due, statuses, strict=True):
            if status == "lost":
                each.tell("lost")
                continue
            if is_due:
                each.renewed = asked
            if status == "cancelled":
                each.tell("cancelled")

    def _all(self) -> list[Held]:
        with self._guard:
            return list(self._held.values())
