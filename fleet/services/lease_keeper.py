"""Keeps the leases of all tasks that this process runs, with one thread for all of them.

Every second it asks whether somebody has cancelled one of them, and every few seconds it
renews each lease. A second thread asks nobody: it stops a run in time though the first one waits
for a Redis that does not answer. A run that must end is told why: `cancelled`, `lost` where the
lease has passed to another or could not be renewed before it ended, or `given_back` where its
worker stops and others shall run it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from fleet.errors import RetryLater
from fleet.state.tasks import Lease, Tasks

Verdict = Literal["cancelled", "lost", "given_back"]

LOOK_SECONDS = 1.0
# A run stops itself so long before its lease can pass to another, so that two never overlap: 2 s
# of the usual 15 s.
MARGIN_SHARE = 2 / 15
OVERDUE_LOOK_SECONDS = 0.2

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Held:
    """A lease in use. `renewed` is the monotonic time at which it was last known to be ours."""

    lease: Lease
    stop: Callable[[Verdict], None]
    renewed: float = field(default_factory=time.monotonic)


class LeaseKeeper:
    """One for each process; `start` it after the fork."""

    def __init__(self, tasks: Tasks, lease_seconds: float, renew_seconds: float) -> None:
        self.tasks = tasks
        self.lease_seconds = lease_seconds
        self.renew_seconds = renew_seconds
        self._held: dict[str, Held] = {}
        self._gives_back = False
        self._guard = threading.Lock()

    def start(self) -> None:
        """Begin to watch, in daemon threads."""
        for look, seconds in (
            (self.look, LOOK_SECONDS),
            (self.stop_overdue, OVERDUE_LOOK_SECONDS),
        ):
            name = f"lease-keeper-{look.__name__}"
            threading.Thread(target=_watch, args=(look, seconds), name=name, daemon=True).start()

    def hold(self, lease: Lease, stop: Callable[[Verdict], None]) -> None:
        """Keep a lease until `release`. `stop` is called from the keeper's threads."""
        with self._guard:
            self._held[lease.task_id] = Held(lease, stop)
            gives_back = self._gives_back
        if gives_back:
            stop("given_back")

    def release(self, lease: Lease) -> None:
        """Let go of a lease."""
        with self._guard:
            self._held.pop(lease.task_id, None)

    def give_back(self) -> None:
        """Stop every run of this process for others to run, and those that begin from now on."""
        with self._guard:
            self._gives_back = True
            held = list(self._held.values())
        for each in held:
            each.stop("given_back")

    def look(self) -> None:
        """One round: stop what is cancelled, renew what is due, stop what is lost."""
        held = self._all_held()
        if not held:
            return
        try:
            self._stop_cancelled(held)
            for each in held:
                self._renew(each)
        except RetryLater as error:
            log.warning("leases could not be renewed", error=str(error))

    def stop_overdue(self) -> None:
        """Stop what could not be renewed, before its lease can pass to another."""
        now = time.monotonic()
        for each in self._all_held():
            if now - each.renewed > self.lease_seconds * (1 - MARGIN_SHARE):
                each.stop("lost")

    def _all_held(self) -> list[Held]:
        with self._guard:
            return list(self._held.values())

    def _stop_cancelled(self, held: list[Held]) -> None:
        wanted = self.tasks.wanted_stopped([each.lease.task_id for each in held])
        for each in held:
            if each.lease.task_id in wanted:
                each.stop("cancelled")

    def _renew(self, each: Held) -> None:
        now = time.monotonic()
        if now - each.renewed < self.renew_seconds:
            return
        if self.tasks.renew(each.lease, self.lease_seconds):
            each.renewed = now
        else:
            each.stop("lost")


def _watch(look: Callable[[], None], seconds: float) -> None:
    while True:
        time.sleep(seconds)
        try:
            look()
        except Exception:
            # The thread must outlive any surprise: without it every lease would end.
            log.exception("the lease keeper stumbled")
