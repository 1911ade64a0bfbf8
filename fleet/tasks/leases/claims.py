"""Claims the tasks that are delivered to a process, those too that nobody has written down."""

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
from fleet.tasks.store import Lease, Tasks, claims_of
from fleet.tasks.submission.checks import USUAL_PRIORITY
from fleet.tasks.submission.reservation import call_limits, in_emergency, over_error


@dataclass(frozen=True, slots=True)
class Delivery:
    """A task as a worker got it. `tenant`, `plan` and `message`, by which it can be queued again,
    make a record where none was written; `refused` says why such a task may not run. `claimed`
    is called when it is to run here, `runs_alone` where the process is to begin nothing else for
    now, and `agent_ended` when the agent has ended, before that is written. `ended` is called
    with the error that the task has ended with, once that is written: no other error that a run
    raises is an end."""

    task_id: str
    payload: Any
    tenant: str
    plan: Callable[[], str]
    priority: int = USUAL_PRIORITY
    message: Callable[[], str] = lambda: ""
    refused: Callable[[], FleetError | None] = lambda: None
    claimed: Callable[[], None] = lambda: None
    runs_alone: Callable[[], None] = lambda: None
    agent_ended: Callable[[], None] = lambda: None
    ended: Callable[[FleetError], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to run a task. `refused` says why it is not to run all the same: its publisher
    could neither hold its money nor refuse it."""

    lease: Lease
    refused: FleetError | None = None


class Claims:
    """Claims for one agent."""

    def __init__(
        self, tasks: Tasks, policy: CachedPolicy, agent_id: str, pool: str, lease_seconds: float
    ) -> None:
        self.tasks = tasks
        self.policy = policy
        self.agent_id = agent_id
        self.pool = pool
        self.lease_seconds = lease_seconds
        self._name, self._number = claims_of(os.getpid()) + uuid4().hex, count()

    def claim(self, delivery: Delivery) -> Claimed | str:
        """The right to run a delivered task, or why there is none: see `Tasks.claim`."""
        lease = self._ask(delivery)
        if lease == "unknown":
            return self._claim_unwritten(delivery)
        return lease if isinstance(lease, str) else Claimed(lease)

    def _claim_unwritten(self, delivery: Delivery) -> Claimed | str:
        """Claim a task whose publisher wrote no record: its money is held now, or it is refused."""
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
        """The plan and the message of a task without a record. Where it can have none, there will
        be no record either, and the error is all that becomes of it. The message of a refused one
        is not kept: a retry would run it for another tenant than it names."""
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
