"""The model calls of one run. Each call is admitted, made, billed, and reported to the fleet.

    admitted   its upper bound is reserved under every limit (`fleet.models.rules.upper_bound`); if
               a limit has no room, the call is not made. It takes a place among the calls in flight
               with its key (`fleet.models.rules.concurrency`), and waits for one if none is free
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
from fleet.errors import FleetError, QuotaExhausted, RateLimited, RetryLater, Unavailable
from fleet.models.rules.catalogue import Model
from fleet.models.rules.cut_calls import CallProgress
from fleet.models.rules.output_limits import Shown
from fleet.tasks.model_call import ModelCall
from fleet.tasks.model_calls_store import (
    NO_PLACE,
    Busy,
    CallTurn,
    KeyPlace,
    LeftPlace,
    LimitBasis,
    LimitChanged,
    Settled,
)
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
    bound, its place with its key, and whether it has its model's turn."""

    number: int
    caller: ModelCaller
    question: Question
    model: Model
    bound: ModelCall
    place: KeyPlace
    has_turn: bool = False


Answer = Refusal | CallTurn | LimitChanged | Busy | None
"""The answer to a request for admission, see `ModelCallStore.admit`."""

CallAnswer = ModelReply | FleetError | Refusal

MAX_PLACE_SECONDS = 10.0
"""The longest wait for a place with a key."""

PLACE_SECONDS = 10.0
"""A place lasts this much longer than its call may take: so the place of a dead worker ends."""


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
        self,
        caller: ModelCaller,
        why: str,
        question: Question,
        save_as: str = "",
        *,
        may_wait: bool = True,
    ) -> CallAnswer:
        """Make a call; the reply, an error after which another model is tried, or the refusal of a
        limit without room, in which case no call was made. Raises any other error.

        If the key has no place for the call, it waits for one. If it may not wait, that is a
        refusal too.
        """
        with self._one_more_in_flight():
            number = next(self._numbers)
            flight = await self._admitted(number, caller, why, question, may_wait=may_wait)
            if isinstance(flight, CallInFlight):
                return await self._made(flight, save_as)
            return flight

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
        self, number: int, caller: ModelCaller, why: str, question: Question, *, may_wait: bool
    ) -> Refusal | CallInFlight | RateLimited:
        """Reserve the upper bound of a call, at the current price, and a place with its key."""
        place = _place_of(caller, may_queue=may_wait)
        deadline = time.monotonic() + MAX_PLACE_SECONDS
        while True:
            model = caller.model
            most = self.limits.max_output(caller, question)
            bound = upper_bound(model, why, question, most)
            flight = CallInFlight(number, caller, question, model, bound, place)
            basis = self.limits.basis(caller, model, question)
            admitted = asyncio.to_thread(self.admit, number, bound, basis, place)
            admission = asyncio.ensure_future(admitted)
            try:
                answer = await asyncio.shield(admission)
            except asyncio.CancelledError:
                await to_the_end(self._free_reservation(admission, flight))
                raise
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer, LimitChanged):
                self.limits.changed(model.name, answer.record)
            elif isinstance(answer, Busy):
                if not may_wait:
                    return _busy(flight, answer)
                if time.monotonic() + answer.seconds > deadline:
                    await asyncio.to_thread(self._leave_queue, flight)
                    return _no_place(flight, answer)
                await self._wait(answer.seconds, flight)
            elif answer is None or answer.is_mine:
                return flight._replace(has_turn=answer is not None)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _wait(self, seconds: float, flight: CallInFlight) -> None:
        """Wait for a place. A cancelled call leaves the queue."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await to_the_end(asyncio.to_thread(self._leave_queue, flight))
            raise

    def _leave_queue(self, flight: CallInFlight) -> None:
        # Its turn in the queue ends by itself if Redis is away.
        with suppress(FleetError):
            self.store.leave_queue(self.lease, flight.number, flight.model.name, flight.place)

    def admit(
        self, number: int, bound: ModelCall, basis: LimitBasis, place: KeyPlace = NO_PLACE
    ) -> Answer:
        """Reserve the upper bound of a call under the current limits, and a place. Blocks."""
        lease = self.lease
        for version, controls in self.policy.versions():
            limits = call_limits(controls, version, lease.tenant, lease.agent_type, bound.model)
            try:
                answer = self.store.admit(lease, number, bound, limits, basis, place)
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
                left = LeftPlace(flight.place, flight.bound.cost_nanodollars)
                await self._billed(admitted, bill_unmade(flight.bound), left)
            elif isinstance(answer, Busy):
                await asyncio.to_thread(self._leave_queue, flight)

    # Made

    async def _made(self, flight: CallInFlight, save_as: str) -> ModelReply | FleetError:
        number, caller, question, model, bound, place, _ = flight
        began, progress = time.monotonic(), CallProgress()
        try:
            reply = await caller.ask(*question, progress, model)
        except BaseException as error:
            call = bill_failure(bound, model, error, time.monotonic() - began, progress.cut)
            left = _left(flight, error)
            settled = await to_the_end(self._billed(flight, call, left))
            failure = failure_of(error)
            if failure not in FAILURES or not isinstance(error, FleetError):
                raise
            if isinstance(error, RateLimited):
                error.is_paced = settled.is_paced
            if failure is not REJECTED and not settled.is_paced:
                await self.learning.open_circuit(model.name, caller.used_key, error)
            return error
        call = bill_answer(bound, model, reply, question.max_tokens, progress.cut)
        shown = shown_by(reply, call, question.max_tokens, was_cut=progress.cut is not None)
        left = LeftPlace(place, bound.cost_nanodollars, "answered")
        await to_the_end(self._billed(flight, call, left, shown, save_as, reply))
        self.learning.answered(model.name, self.lease.fence)
        await self.learning.learn_speed(number, call)
        return reply

    # Billed

    async def _billed(
        self,
        flight: CallInFlight,
        call: ModelCall,
        left: LeftPlace,
        shown: Shown | None = None,
        save_as: str = "",
        reply: ModelReply | None = None,
    ) -> Settled:
        """Report what a call shows about its model's limit, then charge it.

        Callers await this even when cancelled: an interrupted call would be charged as lost.
        """
        if flight.has_turn or self.limits.must_report(flight.caller, shown):
            name = f"{self.lease.task_id} {self.lease.fence}.{flight.number}"
            await asyncio.to_thread(self.limits.report, flight.caller, name, shown)
        try:
            settled = await asyncio.to_thread(
                self._settle, flight.number, call, left, save_as, reply
            )
        except Unavailable as error:
            # Another class: an agent may catch `Unavailable` and continue, but it must not skip
            # billing.
            message = f"a model call could not be charged to the task: {error}"
            raise RetryLater(message, error.retry_after) from error
        self.spent = max(self.spent, settled.spent)
        if call.cost_nanodollars > flight.bound.cost_nanodollars:
            log.warning(
                "a model call cost more than its upper bound",
                task=self.lease.task_id,
                model=call.model,
                cost=call.cost_nanodollars,
                bound=flight.bound.cost_nanodollars,
            )
        return settled

    def _settle(
        self,
        number: int,
        call: ModelCall,
        left: LeftPlace,
        save_as: str,
        reply: ModelReply | None,
    ) -> Settled:
        """Charge a call; with `save_as`, the same script saves its answer. Blocks."""
        if reply is None or not save_as:
            return self.store.settle(self.lease, number, call, left=left)
        answer = reply.model_dump_json()
        settled = self.store.settle(self.lease, number, call, save_as, answer, left)
        if settled.is_saved:
            self.checkpoints.note(save_as, answer)
        else:
            log.warning("the answer is too large to save", task=self.lease.task_id, name=save_as)
        return settled


def _place_of(caller: ModelCaller, *, may_queue: bool) -> KeyPlace:
    """The place that a call needs with its key."""
    key = caller.key
    if key is None:
        return NO_PLACE
    daily = key.daily_nanodollars
    ms = round((caller.timeout + PLACE_SECONDS) * 1000)
    return KeyPlace(
        key.id, key.concurrency or "", "" if daily is None else daily, ms, int(may_queue)
    )


def _left(flight: CallInFlight, error: BaseException) -> LeftPlace:
    """The place of a call that has failed, and what that shows of the key."""
    left = LeftPlace(flight.place, flight.bound.cost_nanodollars)
    if not isinstance(error, RateLimited) or isinstance(error, QuotaExhausted):
        return left
    return left._replace(outcome="refused", retry_ms=round(error.asked_seconds * 1000))


def _busy(flight: CallInFlight, busy: Busy) -> Refusal:
    """The refusal of a call that may not wait for a place."""
    return Refusal(f"key:{flight.place.id}", "c", 3, 0, 0, 0, 1, round(busy.seconds * 1000))


def _no_place(flight: CallInFlight, busy: Busy) -> RateLimited:
    """The error of a call that has waited for a place in vain."""
    return RateLimited(
        f"model {flight.model.name}: key {flight.place.id} had no place for one more call within "
        f"{MAX_PLACE_SECONDS:.0f} s",
        busy.seconds,
    )
