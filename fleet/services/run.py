"""Running one task: claim, run, finish.

    claimed   -> the agent runs under the task's time limit, its lease kept. A task whose workers
                 have died until one more death would end it first stands aside until no other
                 such task runs in the process: so each of them dies for itself alone
    held      -> another run's lease is alive: this delivery is dropped, since the record
                 brings the task back should that run die
    parked    -> a step does not fit a limit, and the policy says to wait; or the run ended in an
                 error that time may heal, and is tried again
    given back -> the worker was told to stop, and there was no time to end
    ended     -> a late redelivery, or a task cancelled while it waited: dropped
    spent     -> so many workers have died of it that it is to end: dropped, the reaper ends it

A run ends in exactly one write, which only the newest lease may make. A run that has lost
its lease writes nothing.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from pydantic import ValidationError

from fleet.adapters.model_calls import ModelCaller
from fleet.agent import Agent, AgentContext, AgentSpec, Outcome
from fleet.core.models import Model
from fleet.core.refusals import Refusal
from fleet.core.retries import Draws, GiveUp, Retry, decide, is_retried
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidRequest,
    LeaseLost,
    ModelRefused,
    NotAllowed,
    OverBudget,
    OverLimit,
    Parked,
    RateLimited,
    RetryLater,
    TaskCancelled,
    TaskFailed,
    TaskTimedOut,
    Unavailable,
)
from fleet.services.context import RunContext
from fleet.services.giving_back import give_back
from fleet.services.lease_keeper import LeaseKeeper, Verdict
from fleet.services.model_steps import ModelSteps
from fleet.services.money_rules import in_emergency, over_error, step_limits
from fleet.services.policy_in_force import PolicyInForce
from fleet.services.pool_health import look_at_pools
from fleet.services.requests import USUAL_PRIORITY
from fleet.services.run_ends import End, cancelled, ended, failed
from fleet.services.step_writer import MOST_CHANGES, Lessons, StepWriter
from fleet.settings import Settings
from fleet.state.examples import Examples
from fleet.state.models import ModelState
from fleet.state.money import NO_LIMITS, StepLimits
from fleet.state.parking import Parking
from fleet.state.pools import Pools
from fleet.state.retries import Retries
from fleet.state.steps import Steps
from fleet.state.tasks import Lease, Tasks

STOP_SECONDS = 2.0
"""How long a run that is told to stop may take to do so, and to write what it has used, before its
task goes on without it."""

SLOT_SECONDS = 0.25
"""How long a claimed task waits for the slot that it was fetched ahead of, before it goes back."""

Written = TypeVar("Written")
RunCoroutine = Callable[[Coroutine[Any, Any, Outcome]], "Future[Outcome]"]

NOT_THE_POOLS_FAULT = (
    *(InvalidRequest, NotAllowed, OverBudget, OverLimit, TaskCancelled),
    *(RateLimited, ContextWindowExceeded, ModelRefused),
)
"""Ends that the request or its models brought about: they do not turn the router from the pool."""

log = structlog.get_logger(__name__)


class NoSlot(Exception):
    """The slot that a task was fetched ahead of did not come free in time."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A task as a worker got it. `tenant` and `plan` make a record where none was written.
    `agent_ended` is called when the agent has ended, before that is written."""

    task_id: str
    payload: Any
    tenant: str
    plan: Callable[[], str]
    priority: int = USUAL_PRIORITY
    agent_ended: Callable[[], None] = lambda: None


class AgentRunner:
    """Runs tasks of one agent type in one process."""

    def __init__(
        self,
        settings: Settings,
        pool: str,
        agent_id: str,
        specs: Mapping[str, AgentSpec],
        tasks: Tasks,
        keeper: LeaseKeeper,
        run_coroutine: RunCoroutine,
        callers: Mapping[str, ModelCaller],
        pools: Pools,
        examples: Examples,
        models: Iterable[Model],
        model_state: ModelState,
        steps: Steps,
        parking: Parking,
        policy: PolicyInForce,
        retries: Retries,
        rng: Draws,
    ) -> None:
        self.settings = settings
        self.steps = steps
        self.parking = parking
        self.retries = retries
        self.rng = rng
        self.policy = policy
        self.pools = pools
        self.examples = examples
        self.models = {model.name: model for model in models}
        self.model_state = model_state
        self.limits = settings.config.limits
        self.pool = pool
        self.agent_id = agent_id
        self.specs = specs
        self.tasks = tasks
        self.keeper = keeper
        self.run_coroutine = run_coroutine
        self.callers = callers
        self.read_roots = tuple(Path(r).resolve() for r in settings.config.agents.read_roots)
        self._made: dict[str, Agent] = {}
        self._claims, self._number = uuid4().hex, count()
        self._slots = asyncio.Semaphore(settings.config.pools[pool].slots)
        self._last_tries = asyncio.Lock()

    def warm_up(self) -> None:
        """Make the agents of the pool, so that the first task does not wait for imports."""
        pool = self.settings.config.pools[self.pool]
        for agent_type in (pool.agent_type, *self.settings.config.helped_by(self.pool)):
            if agent_type in self.specs:
                self._agent(self.specs[agent_type])

    def run(self, agent_type: str, delivery: Delivery) -> dict[str, Any] | None:
        """Run a delivered task to its end. None where this delivery was not to run.

        Raises the task's own error after it was written, `LeaseLost` where the task went to
        another, and `giving_back.GivenBack` where it was given back for another to run.
        """
        lease = self._claim(delivery)
        unwritten = lease == "unknown"
        if unwritten:
            lease = self._claim_unwritten(delivery)
        if isinstance(lease, str):
            log.info("delivery dropped", task=delivery.task_id, because=lease)
            return None
        learns = lease.request_type in self.settings.config.request_types
        lessons = Lessons(self.model_state, self.examples, delivery.payload)
        writer = StepWriter(lease, self.steps, self.policy, lessons, learns)
        refused = self._refusal(lease, delivery.priority if unwritten else None)
        end = failed(refused) if refused else self._run_leased(agent_type, lease, delivery, writer)
        if isinstance(end, Parked):
            self._park(lease, end)
            return None
        if isinstance(end.error, FleetError) and is_retried(end.error):
            decision = self._retry_or_not(lease, end.error)
            if isinstance(decision, Retry) and self._put_back(lease, end, decision.seconds):
                return None
            if isinstance(decision, GiveUp):
                end = replace(end, dead=decision.why)
        self._write(lease, end)
        if end.reward is not None:
            writer.learn(end.reward)
        if end.error is not None:
            raise end.error
        return dict(json.loads(end.fields["result"]))

    def _claim_unwritten(self, delivery: Delivery) -> Lease | str:
        """Claim a task whose publisher wrote no record: its money is held now, or it is refused."""
        plan = delivery.plan()
        known = json.loads(plan)
        names = (delivery.tenant, known["agent_type"], known["model"])
        for _ in range(MOST_CHANGES):
            version, controls = self.policy.now
            lease = self._claim(delivery, plan, step_limits(controls, version, *names))
            if lease != "replan":
                return lease
            self.policy.follow()
        raise Unavailable(f"the policy has changed {MOST_CHANGES} times while a task was claimed")

    def _refusal(self, lease: Lease, priority: int | None) -> FleetError | None:
        """Why a task that its publisher could not refuse is not to run. `priority` is None where
        it was let in before."""
        if lease.refusal is not None:
            return over_error(lease.refusal)
        emergency = self.policy.controls.emergency
        if emergency is None or priority is None or emergency.admits(lease.tenant, priority):
            return None
        return in_emergency(emergency)

    def _claim(
        self, delivery: Delivery, plan: str = "", limits: StepLimits = NO_LIMITS
    ) -> Lease | str:
        name = f"{self._claims}.{next(self._number)}"
        return self._patiently(
            lambda: self.tasks.claim(
                delivery.task_id,
                self.agent_id,
                self.pool,
                self.settings.config.leases.lease_seconds,
                name,
                delivery.tenant,
                plan,
                limits,
            )
        )

    def _run_leased(
        self, agent_type: str, lease: Lease, delivery: Delivery, writer: StepWriter
    ) -> End | Parked:
        verdicts: list[Verdict] = []
        stopped = threading.Event()
        work = self._work(agent_type, lease, delivery, writer, stopped)
        future = self.run_coroutine(work)

        def stop(verdict: Verdict) -> None:
            verdicts.append(verdict)
            future.cancel()

        self.keeper.hold(lease, stop)
        try:
            end = ended(future.result())
        except Exception as error:
            if verdicts:
                stopped.wait(STOP_SECONDS)
            end = self._explain(error, verdicts, lease)
        finally:
            self.keeper.release(lease)
        # Whatever the agent has made of it: what it was to wait for, it has done without.
        stopped_by = set(verdicts) - {"given_back"}
        return writer.parked if writer.parked and not stopped_by else end

    async def _work(
        self,
        agent_type: str,
        lease: Lease,
        delivery: Delivery,
        writer: StepWriter,
        stopped: threading.Event,
    ) -> Outcome:
        try:
            async with self._its_turn(lease), self._slot():
                return await self._run_agent(agent_type, lease, delivery.payload, writer)
        finally:
            stopped.set()
            delivery.agent_ended()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the slots: a run that was fetched ahead waits for it."""
        try:
            async with asyncio.timeout(SLOT_SECONDS if self._slots.locked() else None):
                await self._slots.acquire()
        except TimeoutError:
            raise NoSlot from None
        try:
            yield
        finally:
            self._slots.release()

    @asynccontextmanager
    async def _its_turn(self, lease: Lease) -> AsyncIterator[None]:
        """Wait until the run may begin. Whatever stops a run stops one that waits, too."""
        if not lease.stands_aside:
            yield
            return
        async with self._last_tries:
            await asyncio.to_thread(self._patiently, lambda: self.tasks.begin(lease))
            log.info("runs beside no other that may die of it", task=lease.task_id)
            yield

    async def _run_agent(
        self, agent_type: str, lease: Lease, payload: Any, writer: StepWriter
    ) -> Outcome:
        spec = self.specs[agent_type]
        try:
            checked = spec.payload.model_validate(payload)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
            raise InvalidRequest(f"the payload does not suit {agent_type} at: {places}") from None
        context: AgentContext = RunContext(
            lease,
            self.tasks,
            self._model_steps(lease, writer),
            self.read_roots,
            self.settings.config.agents.sandbox,
        )
        async with asyncio.timeout(self.limits.task_seconds):
            return await self._agent(spec).run(checked, context)

    def _model_steps(self, lease: Lease, writer: StepWriter) -> ModelSteps:
        may_escalate = self.settings.config.models.escalate
        return ModelSteps(lease, self.models, self.callers, writer, may_escalate)

    def _agent(self, spec: AgentSpec) -> Agent:
        if spec.agent_type not in self._made:
            self._made[spec.agent_type] = spec.make()
        return self._made[spec.agent_type]

    def _explain(self, error: Exception, verdicts: list[Verdict], lease: Lease) -> End:
        """What a raised error means for the task."""
        if "lost" in verdicts or isinstance(error, LeaseLost):
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now") from error
        if "cancelled" in verdicts:
            return cancelled()
        if "given_back" in verdicts or isinstance(error, NoSlot):
            raise give_back(self.settings, self.tasks, lease) from None
        if isinstance(error, TimeoutError):
            limit = self.limits.task_seconds
            return failed(TaskTimedOut(f"the task ran over its limit of {limit:g} s"))
        if isinstance(error, FleetError):
            return failed(error)
        log.error("an agent failed", task=lease.task_id, exc_info=error)
        return failed(TaskFailed(f"the agent failed: {type(error).__name__}: {error}"))

    def _park(self, lease: Lease, parked: Parked) -> None:
        """Give up slot, lease and money until the limit has room. A task that nothing could bring
        back, since its publisher wrote no record, fails as if the policy was to refuse; so does
        one that has waited in several runs, for each may pay for its first steps again."""
        refusal = parked.refusal
        assert isinstance(refusal, Refusal)
        status = self._patiently(lambda: self.parking.park(lease, refusal, refusal.wait_ms))
        log.info(status, task=lease.task_id, because=refusal.sentence)
        if status in ("no_message", "spent"):
            error = over_error(refusal)
            self._write(lease, failed(error))
            raise error from parked
        if status == "unwanted":
            self._cancel(lease)

    def _cancel(self, lease: Lease) -> None:
        ttl = self.limits.result_ttl_seconds
        self._patiently(lambda: self.tasks.cancel(lease.task_id, ttl, self.agent_id))

    def _retry_or_not(self, lease: Lease, error: FleetError) -> Retry | GiveUp:
        tried = self._patiently(lambda: self.retries.tried(lease.task_id))
        policy = self.settings.config.retries.policy(error)
        return decide(error, tried.retries, tried.age_seconds, policy, self.rng)

    def _put_back(self, lease: Lease, end: End, seconds: float) -> bool:
        """Give up slot, lease and money until it is tried again. False for a task that nothing
        could bring back, since its publisher wrote no record: it fails."""
        status, failures = self._patiently(
            lambda: self.retries.put_back(
                lease,
                end.fields["error"],
                type(end.error).__name__,
                seconds,
                tells_of_pool=not isinstance(end.error, NOT_THE_POOLS_FAULT),
            )
        )
        log.info("put back", task=lease.task_id, status=status, seconds=seconds, error=end.error)
        if status == "lost":
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now") from end.error
        if status == "unwanted":
            self._cancel(lease)
        if failures >= self.settings.config.health.failures_in_row:
            self._look_at_pools()
        return status != "no_message"

    def _patiently(self, write: Callable[[], Written]) -> Written:
        """Write what a run begins or ends with: Redis may be back in a moment.

        Given up, a beginning takes the message with it, which Celery acknowledges all the same; an
        end counts as that of a run whose worker has died.
        """
        give_up = time.monotonic() + self.settings.config.leases.lease_seconds
        while True:
            try:
                return write()
            except RetryLater:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.5)

    def _write(self, lease: Lease, end: End) -> None:
        """Write the end of a run."""
        finished = self._patiently(
            lambda: self.tasks.finish(
                lease,
                self.pool,
                end.state,
                self.limits.result_ttl_seconds,
                end.fields,
                tells_of_pool=not isinstance(end.error, NOT_THE_POOLS_FAULT),
                dead=end.dead,
            )
        )
        if not finished.kept:
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now; its result was dropped")
        if finished.failures_in_row >= self.settings.config.health.failures_in_row:
            self._look_at_pools()

    def _look_at_pools(self) -> None:
        """Have the pool taken out at once, if its peers do better: beat looks seconds later."""
        agent_type = self.settings.config.pools[self.pool].agent_type
        try:
            look_at_pools(self.settings, self.pools, agent_type)
        except RetryLater as error:
            log.warning("the pools' health could not be looked at", error=str(error))
