"""Running one task: claim, run, finish.

    claimed   -> the agent runs under the task's time limit, its lease kept. A task whose workers
                 have died until one more death would end it first stands aside until nothing else
                 runs in the process, and nothing else begins beside it: so it dies for itself alone
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
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from fleet.agent import Agent, AgentContext, AgentSpec, Outcome
from fleet.budgets.cached_policy import CachedPolicy
from fleet.errors import (
    FleetError,
    LeaseLost,
    Parked,
    RetryLater,
    TaskFailed,
    TaskTimedOut,
)
from fleet.models.examples_store import Examples
from fleet.models.priced import ModelsByName
from fleet.models.rules.catalogue import Model
from fleet.models.store import ModelState
from fleet.redis.retry import retry_while_away
from fleet.routing.pools_store import Pools
from fleet.settings import Settings
from fleet.tasks.leases.claims import Claims, Delivery
from fleet.tasks.leases.renewal import LeaseKeeper, Verdict
from fleet.tasks.leases.requeue import GivenBack, give_back
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.model_calls_store import Steps
from fleet.tasks.rules.retries import Draws
from fleet.tasks.run.context import RunContext
from fleet.tasks.run.model_steps import ModelSteps
from fleet.tasks.run.outcome import End, cancelled, ended, failed
from fleet.tasks.run.outcome_writer import RunWrites
from fleet.tasks.run.step_writer import Lessons, StepWriter
from fleet.tasks.run.stopping import StoppableRun
from fleet.tasks.store import Lease, Tasks
from fleet.tasks.submission.checks import checked_payload
from fleet.tasks.waiting.on_hold_store import OnHold
from fleet.tasks.waiting.retries_store import Retries

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

SLOT_SECONDS = 0.25
"""How long a claimed task waits for the slot that it was fetched ahead of, before it goes back."""

RunCoroutine = Callable[[Coroutine[Any, Any, Outcome]], "Future[Outcome]"]

log = structlog.get_logger(__name__)


class NoSlot(Exception):
    """The slot that a task was fetched ahead of did not come free in time."""


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
        models: Sequence[Model],
        model_state: ModelState,
        steps: Steps,
        parking: OnHold,
        policy: CachedPolicy,
        retries: Retries,
        rng: Draws,
        slots: TaskSlots,
    ) -> None:
        self.settings = settings
        self.steps = steps
        self.policy = policy
        self.examples = examples
        self.models = ModelsByName(models)
        self.model_state = model_state
        self.limits = settings.config.limits
        self.pool = pool
        self.specs = specs
        self.tasks = tasks
        self.keeper = keeper
        self.run_coroutine = run_coroutine
        self.callers = callers
        self.read_roots = tuple(Path(r).resolve() for r in settings.config.agents.read_roots)
        self._made: dict[str, Agent] = {}
        lease_seconds = settings.config.leases.lease_seconds
        self.claims = Claims(tasks, policy, agent_id, pool, lease_seconds)
        self.writes = RunWrites(settings, pool, agent_id, tasks, parking, retries, pools, rng)
        self.slots = slots

    def warm_up(self) -> None:
        """Make the agents of the pool, so that the first task does not wait for imports."""
        pool = self.settings.config.pools[self.pool]
        for agent_type in (pool.agent_type, *self.settings.config.helped_by(self.pool)):
            if agent_type in self.specs:
                self._agent(self.specs[agent_type])

    def run(self, agent_type: str, delivery: Delivery) -> dict[str, Any] | None:
        """Run a delivered task to its end. None where this delivery was not to run.

        Raises the task's own error after it was written and told to `delivery.ended`, `LeaseLost`
        where the task went to another, and `giving_back.GivenBack` where it was given back for
        another to run. Whatever else it raises is no end: the record brings the task back.
        """
        try:
            claimed = self.claims.claim(delivery)
        except RetryLater as error:
            # Its message may be the only one there is: a stock publisher writes no record.
            raise GivenBack(delivery.task_id, is_queued=False, why=str(error)) from error
        if isinstance(claimed, str):
            log.info("delivery dropped", task=delivery.task_id, because=claimed)
            return None
        delivery.claimed()
        lease, refused = claimed.lease, claimed.refused
        learns = lease.request_type in self.settings.config.request_types
        lessons = Lessons(self.model_state, self.examples, delivery.payload)
        writer = StepWriter(lease, self.steps, self.policy, lessons, learns)
        end = failed(refused) if refused else self._run_leased(agent_type, lease, delivery, writer)
        if isinstance(end, Parked):
            written = self.writes.park(lease, end)
        else:
            written = self.writes.write(lease, end)
        if written is None:
            return None
        if written.reward is not None:
            self._learn(writer, written.reward)
        if written.error is not None:
            delivery.ended(written.error)
            raise written.error
        return dict(json.loads(written.fields["result"]))

    def _run_leased(
        self, agent_type: str, lease: Lease, delivery: Delivery, writer: StepWriter
    ) -> End | Parked:
        verdicts: list[Verdict] = []
        run = StoppableRun[Outcome](lease.task_id, self.limits.task_seconds)
        work = self._work(agent_type, lease, delivery, writer, run)

        def stop(verdict: Verdict) -> None:
            verdicts.append(verdict)
            run.stop()

        self.keeper.hold(lease, stop)
        try:
            outcome = run.result(work, self.run_coroutine)
            end = self._cut_short(run, verdicts) or ended(outcome)
        except Exception as error:
            end = self._explain(error, run, verdicts, lease)
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
        run: StoppableRun[Outcome],
    ) -> Outcome:
        try:
            async with self._its_turn(lease, delivery):
                run.begin()
                return await self._run_agent(agent_type, lease, delivery.payload, writer)
        except (SystemExit, KeyboardInterrupt) as error:
            # Out of a task it would end the loop, and with it every other run of the process.
            raise TaskFailed(f"the agent failed: {type(error).__name__}: {error}") from error
        finally:
            delivery.agent_ended()

    @asynccontextmanager
    async def _its_turn(self, lease: Lease, delivery: Delivery) -> AsyncIterator[None]:
        """Have a slot, or all of them where the run stands aside, while it lasts. Whatever stops a
        run stops one that waits, too."""
        count = await self._take_slots(lease, delivery)
        try:
            if lease.stands_aside:
                begin = partial(self.tasks.begin, lease)
                await asyncio.to_thread(retry_while_away, begin, self.keeper.lease_seconds)
            yield
        finally:
            self.slots.give_back(count)

    async def _take_slots(self, lease: Lease, delivery: Delivery) -> int:
        """How many slots the run has now. Raises `NoSlot`."""
        if lease.stands_aside:
            delivery.runs_alone()
            count = self.slots.count
            await self.slots.take(count)
            log.info("runs alone, since one more crash would end it", task=lease.task_id)
            return count
        try:
            await self.slots.take(patience_seconds=SLOT_SECONDS)
        except TimeoutError:
            raise NoSlot from None
        return 1

    async def _run_agent(
        self, agent_type: str, lease: Lease, payload: Any, writer: StepWriter
    ) -> Outcome:
        spec = self.specs[agent_type]
        max_bytes = self.settings.config.limits.payload_bytes
        checked, _ = checked_payload(spec.payload, lease.request_type, payload, max_bytes)
        context: AgentContext = RunContext(
            lease,
            self.tasks,
            self._model_steps(lease, writer),
            self.read_roots,
            self.settings.config.agents.sandbox,
        )
        return await self._agent(spec).run(checked, context)

    def _model_steps(self, lease: Lease, writer: StepWriter) -> ModelSteps:
        may_escalate = self.settings.config.models.escalate
        return ModelSteps(lease, self.models, self.callers, writer, may_escalate)

    def _agent(self, spec: AgentSpec) -> Agent:
        if spec.agent_type not in self._made:
            self._made[spec.agent_type] = spec.make()
        return self._made[spec.agent_type]

    def _cut_short(self, run: StoppableRun[Outcome], verdicts: list[Verdict]) -> End | None:
        """The end of a run that was stopped for good; None where nothing did that."""
        if "cancelled" in verdicts:
            return cancelled()
        if run.timed_out:
            limit = self.limits.task_seconds
            return failed(TaskTimedOut(f"the task ran over its limit of {limit:g} s"))
        return None

    def _explain(
        self, error: Exception, run: StoppableRun[Outcome], verdicts: list[Verdict], lease: Lease
    ) -> End:
        """What a raised error means for the task."""
        if "lost" in verdicts or isinstance(error, LeaseLost):
            raise LeaseLost(f"task {lease.task_id} runs elsewhere now") from error
        end = self._cut_short(run, verdicts)
        if end is not None:
            return end
        if "given_back" in verdicts or isinstance(error, NoSlot):
            raise give_back(self.settings, self.tasks, lease) from None
        if isinstance(error, FleetError):
            return failed(error)
        log.error("an agent failed", task=lease.task_id, exc_info=error)
        return failed(TaskFailed(f"the agent failed: {type(error).__name__}: {error}"))

    def _learn(self, writer: StepWriter, reward: float) -> None:
        """What the end says of its model. It is written, whatever comes of this."""
        try:
            writer.learn(reward)
        except Exception as error:
            log.warning("nothing was learned of a run", error=repr(error))
