"""Writes the outcome of a run: final, on hold until a limit has room, or put back for a retry.

Each is one script, which takes effect for the newest lease only. While Redis is away the script is
tried again, for as long as a lease lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidRequest,
    LeaseLost,
    ModelNotServed,
    ModelRefused,
    NotAllowed,
    OverBudget,
    OverLimit,
    RateLimited,
    TaskCancelled,
    TaskOnHold,
)
from fleet.redis.retry import retry_while_away
from fleet.routing.health import look_at_pools
from fleet.routing.pools_store import Pools
from fleet.settings import Settings
from fleet.tasks.rules import Draws, GiveUp, Retry, decide_retry, is_retried
from fleet.tasks.run.outcome import RunOutcome, failed
from fleet.tasks.run.services import PoolAgent
from fleet.tasks.store import Lease
from fleet.tasks.stores import TaskStores
from fleet.tasks.submission.refusals import over_error
from fleet.telemetry.logger import get_logger

NOT_THE_POOLS_FAULT = (
    *(InvalidRequest, NotAllowed, OverBudget, OverLimit, TaskCancelled),
    *(RateLimited, ContextWindowExceeded, ModelRefused, ModelNotServed),
)
"""Errors caused by the request or its models: they do not count against the pool."""

Written = TypeVar("Written")

log = get_logger(__name__)


class OutcomeWriter:
    """Writes the outcomes of the runs of one agent."""

    def __init__(
        self, settings: Settings, agent: PoolAgent, tasks: TaskStores, pools: Pools, rng: Draws
    ) -> None:
        self.settings = settings
        self.agent = agent
        self.tasks = tasks
        self.pools = pools
        self.rng = rng

    def hold(self, lease: Lease, on_hold: TaskOnHold) -> RunOutcome | None:
        """Put a task on hold until the limit has room; it gives up slot, lease and money.

        A task without a stored message could not return, so it fails as under the policy `refuse`.
        So does a task that was on hold in too many runs: each run may pay for its first calls
        again. Gives the outcome that was written in these cases, else None.
        """
        refusal = on_hold.refusal
        assert isinstance(refusal, Refusal)
        status = self._while_away(lambda: self.tasks.on_hold.add(lease, refusal, refusal.wait_ms))
        log.info(status, task=lease.task_id, reason=refusal.sentence)
        if status in ("no_message", "spent"):
            outcome = failed(over_error(refusal))
            self._finish(lease, outcome)
            return outcome
        if status == "unwanted":
            self._cancel(lease)
        return None

    def write(self, lease: Lease, outcome: RunOutcome) -> RunOutcome | None:
        """Write a final outcome; the outcome as written, or None if the task was put back for a
        retry. Raises `LeaseLost` if another run has the task."""
        if isinstance(outcome.error, FleetError) and is_retried(outcome.error):
            decision = self._retry_or_not(lease, outcome.error)
            if isinstance(decision, Retry) and self._put_back(lease, outcome, decision.seconds):
                return None
            if isinstance(decision, GiveUp):
                outcome = replace(outcome, dead=decision.why)
        self._finish(lease, outcome)
        return outcome

    def _retry_or_not(self, lease: Lease, error: FleetError) -> Retry | GiveUp:
        tried = self._while_away(lambda: self.tasks.retries.prior(lease.task_id))
        policy = self.settings.config.retries.policy(error)
        return decide_retry(error, tried.retries, tried.age_seconds, policy, self.rng)

    def _put_back(self, lease: Lease, outcome: RunOutcome, seconds: float) -> bool:
        """Put a task on hold until its retry; it gives up slot, lease and money.

        False for a task without a stored message: it could not return, so it fails.
        """
        status, failures = self._while_away(
            lambda: self.tasks.retries.put_back(
                lease,
                outcome.fields["error"],
                type(outcome.error).__name__,
                seconds,
                counts_for_pool=not isinstance(outcome.error, NOT_THE_POOLS_FAULT),
            )
        )
        log.info(
            "put back for a retry",
            task=lease.task_id,
            status=status,
            seconds=seconds,
            error=outcome.error,
        )
        if status == "lost":
            raise LeaseLost(f"another run has task {lease.task_id} now") from outcome.error
        if status == "unwanted":
            self._cancel(lease)
        self._count(failures)
        return status != "no_message"

    def _finish(self, lease: Lease, outcome: RunOutcome) -> None:
        finished = self._while_away(
            lambda: self.tasks.records.finish(
                lease,
                self.agent.pool,
                outcome.state,
                self.settings.config.limits.result_ttl_seconds,
                outcome.fields,
                counts_for_pool=not isinstance(outcome.error, NOT_THE_POOLS_FAULT),
                dead=outcome.dead,
            )
        )
        if not finished.kept:
            raise LeaseLost(f"another run has task {lease.task_id} now; the result was dropped")
        self._count(finished.failures_in_row)

    def _cancel(self, lease: Lease) -> None:
        ttl = self.settings.config.limits.result_ttl_seconds
        self._while_away(lambda: self.tasks.records.cancel(lease.task_id, ttl, self.agent.id))

    def _count(self, failures_in_row: int) -> None:
        """After too many consecutive failures check the pool's health at once: beat would check it
        only seconds later."""
        if failures_in_row < self.settings.config.health.failures_in_row:
            return
        agent_type = self.settings.config.pools[self.agent.pool].agent_type
        try:
            look_at_pools(self.settings, self.pools, agent_type)
        except Exception as error:
            # The outcome is written already; this check may fail.
            log.warning("the health of the pools could not be checked", error=repr(error))

    def _while_away(self, write: Callable[[], Written]) -> Written:
        return retry_while_away(write, self.settings.config.leases.lease_seconds)
