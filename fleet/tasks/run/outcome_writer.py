"""Writes how a run ended: for good, parked until a limit has room, or put back to be tried again.

Each is one script, which only the newest lease may run. While Redis is away they are tried again,
for as long as a lease lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog

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
    Parked,
    RateLimited,
    TaskCancelled,
)
from fleet.redis.retry import retry_while_away
from fleet.routing.health import look_at_pools
from fleet.routing.pools_store import Pools
from fleet.settings import Settings
from fleet.tasks.rules.retries import Draws, GiveUp, Retry, decide, is_retried
from fleet.tasks.run.outcome import RunOutcome, failed
from fleet.tasks.run.services import PoolAgent
from fleet.tasks.store import Lease
from fleet.tasks.stores import TaskStores
from fleet.tasks.submission.reservation import over_error

NOT_THE_POOLS_FAULT = (
    *(InvalidRequest, NotAllowed, OverBudget, OverLimit, TaskCancelled),
    *(RateLimited, ContextWindowExceeded, ModelRefused, ModelNotServed),
)
"""Ends that the request or its models brought about: they do not turn the router from the pool."""

Written = TypeVar("Written")

log = structlog.get_logger(__name__)


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

    def park(self, lease: Lease, parked: Parked) -> RunOutcome | None:
        """Give up slot, lease and money until the limit has room. A task that nothing could bring
        back, since its publisher wrote no record, fails as if the policy was to refuse; so does
        one that has waited in several runs, for each may pay for its first calls again. Gives the
        outcome that was written then."""
        refusal = parked.refusal
        assert isinstance(refusal, Refusal)
        status = self._patiently(lambda: self.tasks.on_hold.park(lease, refusal, refusal.wait_ms))
        log.info(status, task=lease.task_id, because=refusal.sentence)
        if status in ("no_message", "spent"):
            outcome = failed(over_error(refusal))
            self._finish(lease, outcome)
            return outcome
        if status == "unwanted":
            self._cancel(lease)
        return None

    def write(self, lease: Lease, outcome: RunOutcome) -> RunOutcome | None:
        """Write an outcome for good, and give it as it was written. None where the task was put
        back to be tried again. Raises `LeaseLost` where it went to another run."""
        if isinstance(outcome.error, FleetError) and is_retried(outcome.error):
            decision = self._retry_or_not(lease, outcome.error)
            if isinstance(decision, Retry) and self._put_back(lease, outcome, decision.seconds):
                return None
            if isinstance(decision, GiveUp):
                outcome = replace(outcome, dead=decision.why)
        self._finish(lease, outcome)
        return outcome

    def _retry_or_not(self, lease: Lease, error: FleetError) -> Retry | GiveUp:
        tried = self._patiently(lambda: self.tasks.retries.tried(lease.task_id))
        policy = self.settings.config.retries.policy(error)
        return decide(error, tried.retries, tried.age_seconds, policy, self.rng)

    def _put_back(self, lease: Lease, outcome: RunOutcome, seconds: float) -> bool:
        """Give up slot, lease and money until it is tried again. False for a task that nothing
        could bring back, since its publisher wrote no record: it fails."""
        status, failures = self._patiently(
            lambda: self.tasks.retries.put_back(
                lease,
                outcome.fields["error"],
                type(outcome.error).__name__,
                seconds,
                tells_of_pool=not isinstance(outcome.error, NOT_THE_POOLS_FAULT),
            )
        )
        log.info(
            "put back", task=lease.task_id, status=status, seconds=seconds, error=outcome.error
        )
        if status == "lost":
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now") from outcome.error
        if status == "unwanted":
            self._cancel(lease)
        self._count(failures)
        return status != "no_message"

    def _finish(self, lease: Lease, outcome: RunOutcome) -> None:
        finished = self._patiently(
            lambda: self.tasks.records.finish(
                lease,
                self.agent.pool,
                outcome.state,
                self.settings.config.limits.result_ttl_seconds,
                outcome.fields,
                tells_of_pool=not isinstance(outcome.error, NOT_THE_POOLS_FAULT),
                dead=outcome.dead,
            )
        )
        if not finished.kept:
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now; its result was dropped")
        self._count(finished.failures_in_row)

    def _cancel(self, lease: Lease) -> None:
        ttl = self.settings.config.limits.result_ttl_seconds
        self._patiently(lambda: self.tasks.records.cancel(lease.task_id, ttl, self.agent.id))

    def _count(self, failures_in_row: int) -> None:
        """After so many have the pool taken out at once, if its peers do better: beat looks
        seconds later."""
        if failures_in_row < self.settings.config.health.failures_in_row:
            return
        agent_type = self.settings.config.pools[self.agent.pool].agent_type
        try:
            look_at_pools(self.settings, self.pools, agent_type)
        except Exception as error:
            # The end is written, whatever comes of this.
            log.warning("the pools' health could not be looked at", error=repr(error))

    def _patiently(self, write: Callable[[], Written]) -> Written:
        return retry_while_away(write, self.settings.config.leases.lease_seconds)
