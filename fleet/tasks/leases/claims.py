"""Claims delivered tasks, including tasks whose publisher wrote no record."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from fleet.budgets.cached_policy import CachedPolicy, keeps_changing
from fleet.budgets.reservation import NO_LIMITS, CallLimits
from fleet.errors import FleetError, RetryLater
from fleet.redis.retry import retry_while_away
from fleet.tasks.store import Lease, Tasks, claim_prefix
from fleet.tasks.submission.checks import DEFAULT_PRIORITY
from fleet.tasks.submission.refusals import in_emergency, over_error
from fleet.tasks.submission.reservation import call_limits


@dataclass(frozen=True, slots=True)
class Delivery:
    """A task as a worker received it.

    For a task without a record, `tenant`, `plan` and `message` make one, and `refused` gives the
    reason why the task may not run. `message` allows to queue the task again.

    Callbacks: `claimed` when the task will run here; `runs_alone` when the process must begin
    nothing else for now; `agent_ended` when the agent has ended, before the outcome is written;
    `ended` with the task's error, once it is written. Any other error of a run is no outcome.
    """

    task_id: str
    payload: Any
    tenant: str
    plan: Callable[[], str]
    priority: int = DEFAULT_PRIORITY
    message: Callable[[], str] = lambda: ""
    refused: Callable[[], FleetError | None] = lambda: None
    claimed: Callable[[], None] = lambda: None
    runs_alone: Callable[[], None] = lambda: None
    agent_ended: Callable[[], None] = lambda: None
    ended: Callable[[FleetError], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed task. `refused` is the reason why it must not run although it is claimed: its
    publisher could neither reserve money nor refuse it."""

    lease: Lease
    refused: FleetError | None = None


class Claims:
    """Claims tasks for one agent."""

    def __init__(
        self, tasks: Tasks, policy: CachedPolicy, agent_id: str, pool: str, lease_seconds: float
    ) -> None:
        self.tasks = tasks
        self.policy = policy
        self.agent_id = agent_id
        self.pool = pool
        self.lease_seconds = lease_seconds
        self._name, self._number = claim_prefix(os.getpid()) + uuid4().hex, count()

    def claim(self, delivery: Delivery) -> Claimed | str:
        """Claim a delivered task, or give the reason why not: see `Tasks.claim`."""
        lease = self._ask(delivery)
        if lease == "unknown":
            return self._claim_unwritten(delivery)
        return lease if isinstance(lease, str) else Claimed(lease)

    def _claim_unwritten(self, delivery: Delivery) -> Claimed | str:
        """Claim a task without a record: reserve its money now, or refuse the task."""
        refused = delivery.refused()
        plan, message = self._described(delivery, refused)
        known = json.loads(plan)
        names = (delivery.tenant, known["agent_type"], known["model"])
        for version, controls in self.policy.versions():
            lease = self._ask(delivery, plan, call_limits(controls, version, *names), message)
            if not isinstance(lease, str):
                return Claimed(lease, refused or self._refusal(lease, delivery.priority))
            if lease != "replan":
                return lease
        raise keeps_changing("a task was claimed")

    def _described(self, delivery: Delivery, refused: FleetError | None) -> tuple[str, str]:
        """The plan and the message of a task without a record.

        Without a valid plan no record is written, and the error is the outcome. The message of a
        refused task is not stored: a retry would run it for a tenant other than the named one.
        """
        try:
            return delivery.plan(), "" if refused else delivery.message()
        except RetryLater:
            raise
        except FleetError as error:
            delivery.ended(refused or error)
            raise refused or error from None

    def _refusal(self, lease: Lease, priority: int) -> FleetError | None:
        if lease.refusal is not None:
            return over_error(lease.refusal)
        emergency = self.policy.controls.emergency
        if emergency is None or emergency.admits(lease.tenant, priority):
            return None
        return in_emergency(emergency)

    def _ask(
        self,
        delivery: Delivery,
        plan: str = "",
        limits: CallLimits = NO_LIMITS,
        message: str = "",
    ) -> Lease | str:
        name = f"{self._name}.{next(self._number)}"
        return retry_while_away(
            lambda: self.tasks.claim(
                delivery.task_id,
                self.agent_id,
                self.pool,
                self.lease_seconds,
                name,
                delivery.tenant,
                plan,
                limits,
                message,
            ),
            self.lease_seconds,
        )
