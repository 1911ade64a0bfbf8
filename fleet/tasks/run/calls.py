"""The model calls of one run. Each call is admitted, made, billed, and reported to the fleet.

    admitted   its upper bound is reserved under every limit (`fleet.models.rules.upper_bound`); if
               a limit has no room, the call is not made
    made       by its model's caller: streamed, and cut if the answer exceeds its limit
    billed     its cost is charged to the task, or the run fails: spend is never lost. Unreported
               usage of a call that may have been served is charged as uncertain, see `billing`
    reported   before billing: whether the model kept its output limit, so that the fleet knows it
               when the reservation is freed; after billing: that the model answers, and its speed

A cancellation waits for scripts in progress. The reservation of a call that is then not made is
freed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from fleet.agent import ModelReply, to_the_end
from fleet.budgets.cached_policy import keeps_changing
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import FleetError, RetryLater, Unavailable
from fleet.models.rules.catalogue import Model
from fleet.models.rules.cut_calls import CallProgress
from fleet.models.rules.output_limits import Shown
from fleet.tasks.model_call import ModelCall
from fleet.tasks.model_calls_store import CallTurn, LimitBasis, LimitChanged
from fleet.tasks.run.billing import (
    FAILURES,
    REJECTED,
    Question,
    bill_answer,
    bill_failure,
    bill_unmade,
    failure_of,
    shown_by,
    upper_bound,
)
from fleet.tasks.run.checkpoints import Checkpoints
from fleet.tasks.run.learning import RunLearning
from fleet.tasks.run.limit_watch import LOOK_SECONDS, LimitWatch
from fleet.tasks.run.services import ModelServices
from fleet.tasks.store import Lease
from fleet.tasks.submission.reservation import call_limits
from fleet.telemetry.logger import get_logger

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

log = get_logger(__name__)


class CallInFlight(NamedTuple):
    """An admitted call: its number within the run, its model with the price that applies, its upper
    bound, and whether it has its model's turn."""

    number: int
    caller: ModelCaller
    question: Question
    model: Model
    bound: ModelCall
    has_turn: bool = False


Answer = Refusal | CallTurn | LimitChanged | None
"""The answer to a request for admission, see `ModelCallStore.admit`."""


class ModelCalls:
    """Makes the model calls of one run."""

    def __init__(
        self,
        lease: Lease,
        services: ModelServices,
        checkpoints: Checkpoints,
        learning: RunLearning,
    ) -> None:
        self.lease = lease
        self.store = services.calls
        self.policy = services.policy
        self.checkpoints = checkpoints
        self.learning = learning
        self.limits = LimitWatch(services.state)
        self.spent = lease.spent_nanodollars
        """The cost of the task so far, in nano-dollars."""
        self._numbers = count(1)
        self._in_flight: set[asyncio.Future[None]] = set()

    async def call(
        self, caller: ModelCaller, why: str, question: Question, save_as: str = ""
    ) -> ModelReply | FleetError | Refusal:
        """Make a call; the reply, an error after which another model is tried, or the refusal of a
        limit without room, in which case no call was made. Raises any other error."""
        with self._one_more_in_flight():
            flight = await self._admitted(next(self._numbers), caller, why, question)
            if isinstance(flight, Refusal):
                return flight
            return await self._made(flight, save_as)

    async def another_has_ended(self) -> bool:
        """Wait until another call of the run has ended and freed the rest of its reservation.

        False if there is no other call.
        """
        if not self._in_flight:
            return False
        await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        return True

    @contextmanager
    def _one_more_in_flight(self) -> Iterator[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(ended)
        try:
            yield
        finally:
            self._in_flight.discard(ended)
            ended.set_result(None)

    # Admitted

    async def _admitted(
        self, number: int, caller: ModelCaller, why: str, question: Question
    ) -> Refusal | CallInFlight:
        """Reserve the upper bound of a call, at the current price."""
        while True:
            model = caller.model
            most = self.limits.max_output(caller, question)
            bound = upper_bound(model, why, question, most)
            flight = CallInFlight(number, caller, question, model, bound)
            basis = self.limits.basis(caller, model, question)
            admission = asyncio.ensure_future(asyncio.to_thread(self.admit, number, bound, basis))
            try:
                answer = await asyncio.shield(admission)
            except asyncio.CancelledError:
                await to_the_end(self._free_reservation(admission, flight))
                raise
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer, LimitChanged):
                self.limits.changed(model.name, answer.record)
            elif answer is None or answer.is_mine:
                return flight._replace(has_turn=answer is not None)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def admit(self, number: int, bound: ModelCall, basis: LimitBasis) -> Answer:
        """Reserve the upper bound of a call under the current limits. Blocks."""
        lease = self.lease
        for version, controls in self.policy.versions():
            limits = call_limits(controls, version, lease.tenant, lease.agent_type, bound.model)
            try:
                answer = self.store.admit(lease, number, bound, limits, basis)
            except Unavailable as error:
                if self.policy.config.budgets.redis_away == "closed":
                    raise
                log.warning("a model call is made without being admitted", error=str(error))
                return None
            if not isinstance(answer, str):
                return answer
        raise keeps_changing("a model call was admitted")

    async def _free_reservation(
        self, admission: asyncio.Future[Answer], flight: CallInFlight
    ) -> None:
        """Free the reservation of a call that is not made."""
        with suppress(FleetError):
            answer = await admission
            if answer is None or answer == CallTurn(is_mine=True):
                admitted = flight._replace(has_turn=answer is not None)
                await self._billed(admitted, bill_unmade(flight.bound))

    # Made

    async def _made(self, flight: CallInFlight, save_as: str) -> ModelReply | FleetError:
        number, caller, question, model, bound, _ = flight
        began, progress = time.monotonic(), CallProgress()
        try:
            reply = await caller.ask(*question, progress, model)
        except BaseException as error:
            call = bill_failure(bound, model, error, time.monotonic() - began, progress.cut)
            await to_the_end(self._billed(flight, call))
            failure = failure_of(error)
            if failure not in FAILURES or not isinstance(error, FleetError):
                raise
            if failure is not REJECTED:
                await self.learning.open_circuit(model.name, caller.used_key, error)
            return error
        call = bill_answer(bound, model, reply, question.max_tokens, progress.cut)
        shown = shown_by(reply, call, question.max_tokens, was_cut=progress.cut is not None)
        await to_the_end(self._billed(flight, call, shown, save_as, reply))
        self.learning.answered(model.name, self.lease.fence)
        await self.learning.learn_speed(number, call)
        return reply

    # Billed

    async def _billed(
        self,
        flight: CallInFlight,
        call: ModelCall,
        shown: Shown | None = None,
        save_as: str = "",
        reply: ModelReply | None = None,
    ) -> None:
        """Report what a call shows about its model's limit, then charge it.

        Callers await this even when cancelled: an interrupted call would be charged as lost.
        """
        if flight.has_turn or self.limits.must_report(flight.caller, shown):
            name = f"{self.lease.task_id} {self.lease.fence}.{flight.number}"
            await asyncio.to_thread(self.limits.report, flight.caller, name, shown)
        try:
            spent = await asyncio.to_thread(self._settle, flight.number, call, save_as, reply)
        except Unavailable as error:
            # Another class: an agent may catch `Unavailable` and continue, but it must not skip
            # billing.
            message = f"a model call could not be charged to the task: {error}"
            raise RetryLater(message, error.retry_after) from error
        self.spent = max(self.spent, spent)
        if call.cost_nanodollars > flight.bound.cost_nanodollars:
            log.warning(
                "a model call cost more than its upper bound",
                task=self.lease.task_id,
                model=call.model,
                cost=call.cost_nanodollars,
                bound=flight.bound.cost_nanodollars,
            )

    def _settle(self, number: int, call: ModelCall, save_as: str, reply: ModelReply | None) -> int:
        """Charge a call; with `save_as`, the same script saves its answer. Blocks."""
        if reply is None or not save_as:
            return self.store.settle(self.lease, number, call).spent
        answer = reply.model_dump_json()
        spent, is_saved = self.store.settle(self.lease, number, call, save_as, answer)
        if is_saved:
            self.checkpoints.note(save_as, answer)
        else:
            log.warning("the answer is too large to save", task=self.lease.task_id, name=save_as)
        return spent
