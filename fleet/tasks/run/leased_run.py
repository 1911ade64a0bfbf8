"""One run of a claimed task under its lease: take a slot, run the agent, give the outcome.

    completed    the agent gave an outcome
    cancelled    a user cancelled the task
    timed out    the run exceeded the task's time limit
    failed       the agent raised an error
    lost         another run has the lease: `LeaseLost`, nothing is written
    requeued     the worker shuts down, or no slot came free in time: `Requeued`

A task that may not crash once more runs alone: it waits until nothing else runs in the process, and
nothing else begins beside it. So a crash hits no other task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fleet.agent import Outcome
from fleet.errors import FleetError, LeaseLost, TaskFailed, TaskTimedOut
from fleet.redis.retry import retry_while_away
from fleet.settings import Settings
from fleet.tasks.leases.claims import Delivery
from fleet.tasks.leases.renewal import Verdict
from fleet.tasks.leases.requeue import requeue_on_shutdown
from fleet.tasks.run.outcome import RunOutcome, cancelled, completed, failed
from fleet.tasks.run.services import RunProcess
from fleet.tasks.run.stopping import StoppableRun
from fleet.tasks.store import Lease, Tasks
from fleet.telemetry.logger import get_logger

SLOT_SECONDS = 0.25
"""How long a claimed task waits for a slot before it is requeued: tasks are fetched ahead of
slots."""

log = get_logger(__name__)


class NoSlot(Exception):
    """No slot came free in time for a task that was fetched ahead."""


class LeasedRun:
    """One run. It may take `limit_seconds` from the start of its agent."""

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
        """Whether the run was cancelled or has lost its lease."""
        return bool(set(self._verdicts) - {"shutdown"})

    def outcome(self, run_agent: Callable[[], Coroutine[Any, Any, Outcome]]) -> RunOutcome:
        """Run the agent and wait for its end. Raises `LeaseLost` or `Requeued`."""
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
            # Leaving an asyncio task it would stop the event loop, and every other run with it.
            raise TaskFailed(f"the agent failed: {type(error).__name__}: {error}") from None
        finally:
            self.delivery.agent_ended()

    @asynccontextmanager
    async def _its_turn(self) -> AsyncIterator[None]:
        """Hold one slot, or all slots if the run must run alone. A waiting run can be stopped
        too."""
        count = await self._take_slots()
        try:
            if self.lease.must_run_alone:
                begin = partial(self.tasks.begin, self.lease)
                await asyncio.to_thread(retry_while_away, begin, self.process.keeper.lease_seconds)
            yield
        finally:
            self.process.slots.release(count)

    async def _take_slots(self) -> int:
        """Take the run's slots; how many. Raises `NoSlot`."""
        slots = self.process.slots
        if self.lease.must_run_alone:
            self.delivery.runs_alone()
            count = slots.count
            await slots.take(count)
            log.info("the task runs alone: one more crash would fail it", task=self.lease.task_id)
            return count
        try:
            await slots.take(timeout_seconds=SLOT_SECONDS)
        except TimeoutError:
            raise NoSlot from None
        return 1

    def _cut_short(self) -> RunOutcome | None:
        """The outcome of a run that was cancelled or timed out; None for any other."""
        if "cancelled" in self._verdicts:
            return cancelled()
        if self._run.timed_out:
            limit = self.limit_seconds
            return failed(TaskTimedOut(f"the task ran over its limit of {limit:g} s"))
        return None

    def _explain(self, error: Exception) -> RunOutcome:
        """The outcome of a run that raised an error. Raises `LeaseLost` or `Requeued`."""
        task = self.lease.task_id
        if "lost" in self._verdicts or isinstance(error, LeaseLost):
            raise LeaseLost(f"another run has task {task} now") from error
        outcome = self._cut_short()
        if outcome is not None:
            return outcome
        if "shutdown" in self._verdicts or isinstance(error, NoSlot):
            raise requeue_on_shutdown(self.settings, self.tasks, self.lease) from None
        if isinstance(error, FleetError):
            return failed(self._without_secrets(error))
        log.error("an agent failed", task=task, exc_info=error)
        told = TaskFailed(f"the agent failed: {type(error).__name__}: {error}")
        return failed(self._without_secrets(told))

    def _without_secrets(self, error: FleetError) -> FleetError:
        """The error of an agent, whose text may hold anything that the process knows."""
        hidden = self.process.hidden
        error.args = tuple(hidden(arg) if isinstance(arg, str) else arg for arg in error.args)
        return error
