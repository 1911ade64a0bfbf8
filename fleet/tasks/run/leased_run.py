"""One run of a claimed task, while its lease is kept: it takes its slot, runs its agent, and ends.

    completed    the agent gave an outcome
    cancelled    by a user
    timed out    it ran over the task's time limit
    failed       the agent raised an error
    lost         the lease passed to another run: `LeaseLost`, nothing is written
    given back   the worker is told to stop, or no slot came free in time: `GivenBack`

A task whose workers have died until one more death would end it first stands aside until nothing
else runs in the process, and nothing else begins beside it: so it dies for itself alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog

from fleet.agent import Outcome
from fleet.errors import FleetError, LeaseLost, TaskFailed, TaskTimedOut
from fleet.redis.retry import retry_while_away
from fleet.settings import Settings
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.renewal import Verdict
from fleet.tasks.leases.requeue import give_back
from fleet.tasks.run.outcome import RunOutcome, cancelled, completed, failed
from fleet.tasks.run.services import RunProcess
from fleet.tasks.run.stopping import StoppableRun
from fleet.tasks.store import Lease, Tasks

SLOT_SECONDS = 0.25
"""How long a claimed task waits for the slot that it was fetched ahead of, before it goes back."""

log = structlog.get_logger(__name__)


class NoSlot(Exception):
    """The slot that a task was fetched ahead of did not come free in time."""


class LeasedRun:
    """One run. It may take `limit_seconds` from when its agent begins."""

    def __init__(
        self,
        settings: Settings,
        tasks: Tasks,
        process: RunProcess,
        lease: Lease,
        delivery: Delivery,
        limit_seconds: float,
    ) -> None:
        self.settings = settings
        self.tasks = tasks
        self.process = process
        self.lease = lease
        self.delivery = delivery
        self.limit_seconds = limit_seconds
        self._verdicts: list[Verdict] = []
        self._run = StoppableRun[Outcome](lease.task_id, limit_seconds)

    @property
    def was_stopped(self) -> bool:
        """Whether it was cancelled or has lost its lease."""
        return bool(set(self._verdicts) - {"given_back"})

    def outcome(self, run_agent: Callable[[], Coroutine[Any, Any, Outcome]]) -> RunOutcome:
        """Run the agent, and wait until it has ended. Raises `LeaseLost` or `GivenBack`."""
        self.process.keeper.hold(self.lease, self._stop)
        try:
            outcome = self._run.result(self._work(run_agent), self.process.run_coroutine)
            return self._cut_short() or completed(outcome)
        except Exception as error:
            return self._explain(error)
        finally:
            self.process.keeper.release(self.lease)

    def _stop(self, verdict: Verdict) -> None:
        self._verdicts.append(verdict)
        self._run.stop()

    async def _work(self, run_agent: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        try:
            async with self._its_turn():
                self._run.begin()
                return await run_agent()
        except (SystemExit, KeyboardInterrupt) as error:
            # Out of a task it would end the loop, and with it every other run of the process.
            raise TaskFailed(f"the agent failed: {type(error).__name__}: {error}") from error
        finally:
            self.delivery.agent_ended()

    @asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        """Have a slot, or all of them where the run stands aside, while it lasts. Whatever stops a
        run stops one that waits, too."""
        count = await self._take_slots()
        try:
            if self.lease.stands_aside:
                begin = partial(self.tasks.begin, self.lease)
                await asyncio.to_thread(retry_while_away, begin, self.process.keeper.lease_seconds)
            yield
        finally:
            self.process.slots.give_back(count)

    async def _take_slots(self) -> int:
        """How many slots the run has now. Raises `NoSlot`."""
        slots = self.process.slots
        if self.lease.stands_aside:
            self.delivery.runs_alone()
            count = slots.count
            await slots.take(count)
            log.info("runs alone, since one more crash would end it", task=self.lease.task_id)
            return count
        try:
            await slots.take(patience_seconds=SLOT_SECONDS)
        except TimeoutError:
            raise NoSlot from None
        return 1

    def _cut_short(self) -> RunOutcome | None:
        """The outcome of a run that was stopped for good; None where nothing did that."""
        if "cancelled" in self._verdicts:
            return cancelled()
        if self._run.timed_out:
            limit = self.limit_seconds
            return failed(TaskTimedOut(f"the task ran over its limit of {limit:g} s"))
        return None

    def _explain(self, error: Exception) -> RunOutcome:
        """What a raised error means for the task."""
        task = self.lease.task_id
        if "lost" in self._verdicts or isinstance(error, LeaseLost):
            raise LeaseLost(f"task {task} runs elsewhere now") from error
        outcome = self._cut_short()
        if outcome is not None:
            return outcome
        if "given_back" in self._verdicts or isinstance(error, NoSlot):
            raise give_back(self.settings, self.tasks, self.lease) from None
        if isinstance(error, FleetError):
            return failed(error)
        log.error("an agent failed", task=task, exc_info=error)
        return failed(TaskFailed(f"the agent failed: {type(error).__name__}: {error}"))
