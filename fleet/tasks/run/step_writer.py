"""One call of a model: admits it, makes it, charges it, and writes down what it says of the model.

A call is made once its worst case is bound, see `fleet.models.rules.upper_bound`, and not where
that does not fit a limit. What it takes is charged to the task, or the run fails: spend is never
lost. What was never told of a call that may have been served is charged as uncertain, at its worst
or by what had arrived of its answer. What is learned from a call is a help to others, so that where
it cannot be written a line in the log is enough. A cancellation waits until what has begun in Redis
is done: a step that was bound for a call which was not made after all is given back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from fleet.agent import ModelReply, to_the_end
from fleet.budgets.cached_policy import CachedPolicy
from fleet.budgets.rules.refusals import Refusal
from fleet.errors import (
    FleetError,
    NotAllowed,
    Parked,
    QuotaExhausted,
    RateLimited,
    RetryLater,
    Unavailable,
)
from fleet.ledger.rules.entries import SEEN
from fleet.models.examples_store import Examples
from fleet.models.rules.catalogue import Model
from fleet.models.rules.cut_calls import Progress
from fleet.models.rules.difficulty.payload_text import text_of
from fleet.models.rules.difficulty.text_features import sketch
from fleet.models.rules.learning import WHOLE_KEY
from fleet.models.rules.output_limits import Shown
from fleet.models.store import Lesson, ModelState
from fleet.tasks.model_calls_store import NO_BASIS, LimitBasis, LimitChanged, Steps, Turn
from fleet.tasks.record import Step
from fleet.tasks.run.call_ends import (
    FAILURES,
    REJECTED,
    Question,
    answered,
    cut_step,
    failed,
    failure_of,
    max_of_untold,
    not_made,
    shown_by,
    worst_step,
)
from fleet.tasks.run.checkpoints import Checkpoints
from fleet.tasks.run.limit_watch import LOOK_SECONDS, LimitWatch
from fleet.tasks.store import Lease
from fleet.tasks.submission.reservation import step_limits

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

SHORT_SECONDS = 5.0
"""After an outage a model is left alone for so long at least, see `ModelState.cool`."""

MAX_CHANGES = 5
"""So often the limits are read anew for one step."""

log = structlog.get_logger(__name__)


class Lessons(NamedTuple):
    """Where to write what a run teaches: of the models, and of texts like its payload's.

    Of the payload only a sketch without words is kept.
    """

    state: ModelState
    examples: Examples
    payload: Any


Answer = Refusal | Turn | LimitChanged | None
"""What becomes of a step that asks to be admitted, see `Steps.admit`."""


class Admitted(NamedTuple):
    """A call that may be made: its model at the price that holds for it, its worst, and whether it
    has the model's turn."""

    model: Model
    worst: Step
    has_turn: bool


class StepWriter:
    """The calls of one run, in order."""

    def __init__(
        self,
        lease: Lease,
        steps: Steps,
        policy: CachedPolicy,
        lessons: Lessons,
        learns: bool,
    ) -> None:
        """`learns` says whether the fleet learns from the run: its request type is configured."""
        self.lease = lease
        self.steps = steps
        self.policy = policy
        self.state = lessons.state
        self.lessons = lessons
        self.learns = learns
        self.spent = lease.spent_nanodollars
        self.checkpoints = Checkpoints(lease, steps)
        self.limits = LimitWatch(lessons.state)
        self.answered = ""
        self.answered_in = lease.fence
        """The fence of the run in which the last answer was given: it may be an earlier one."""
        self.parked: Parked | None = None
        """Once it is set the run is to end, whatever its agent makes of the error."""
        self._learned: set[str] = set()
        self._calls = count(1)
        self._under_way: set[asyncio.Future[None]] = set()

    @property
    def over(self) -> str:
        """What the policy says of a step that does not fit: `downgrade`, `wait` or `refuse`."""
        return self.policy.controls.over(self.lease.request_type, self.lease.tenant)

    def saved(self, name: str) -> ModelReply | None:
        """The answer that an earlier run has saved under a name: no call is made for it."""
        reply = self.checkpoints.reply(name)
        if reply is not None:
            self.answered, self.answered_in = reply.model, self.checkpoints.fence(name)
        return reply

    async def call(
        self, caller: ModelCaller, why: str, question: Question, save_as: str = ""
    ) -> ModelReply | FleetError | Refusal:
        """The reply, the error where another model may do better, or the limit that the call does
        not fit: then it was not made. Raises any other error."""
        number = next(self._calls)
        with self._one_more_under_way():
            admitted = await self._admitted(number, caller, why, question)
            if isinstance(admitted, Refusal):
                return admitted
            model, worst, has_turn = admitted
            began, progress = time.monotonic(), Progress()
            try:
                reply = await caller.ask(*question, progress, model)
            except BaseException as error:
                failure, cut = failure_of(error), progress.cut
                seconds = time.monotonic() - began
                most = cut_step(worst, model, cut) if cut else worst
                step = failed(most, failure, error, seconds, begun=cut is not None)
                await to_the_end(self._ended(number, caller, None, has_turn, step))
                self._warn_of_more(worst, step)
                if failure not in FAILURES or not isinstance(error, FleetError):
                    raise
                if failure is not REJECTED:
                    await self.leave_alone(model, error)
                return error
            cut, asked = progress.cut, question.max_tokens
            most = max_of_untold(worst, model, reply, asked)
            step = answered(cut_step(worst, model, cut) if cut else most, reply)
            shown = shown_by(reply, step, asked, was_cut=cut is not None)
            ended = self._ended(number, caller, shown, has_turn, step, save_as, reply)
            await to_the_end(ended)
        await self._learn_of(number, worst, step)
        return reply

    async def _shows(
        self, number: int, caller: ModelCaller, shown: Shown | None, has_turn: bool
    ) -> None:
        """Tell the fleet what a call shows of its model's limit."""
        if has_turn or self.limits.is_news(caller, shown):
            told = (caller, self._name(number), shown)
            await asyncio.to_thread(self.limits.note, *told)

    async def _ended(
        self,
        number: int,
        caller: ModelCaller,
        shown: Shown | None,
        has_turn: bool,
        step: Step,
        save_as: str = "",
        reply: ModelReply | None = None,
    ) -> None:
        """Tell what a call shows, then charge it: when its money is free, the fleet knows."""
        await self._shows(number, caller, shown, has_turn)
        await self._charge(number, step, save_as, reply)

    def _name(self, number: int) -> str:
        """A call of the task for all of the fleet, as the scripts have it."""
        return f"{self.lease.task_id} {self.lease.fence}.{number}"

    async def _learn_of(self, number: int, worst: Step, step: Step) -> None:
        """What an answer says of its model: that it answers, and how quick it is."""
        self._warn_of_more(worst, step)
        self.answered, self.answered_in = step.model, self.lease.fence
        told = step.output_tokens if step.usage == SEEN else 0
        if self.learns and told and step.seconds:
            lesson = Lesson(self.lease.task_id, f"call {self.lease.fence}.{number}")
            timed = (step.model, self.lease.request_type, told, step.seconds, lesson)
            await asyncio.to_thread(self._note, self.state.timed, *timed)

    async def another_has_ended(self) -> bool:
        """Wait until one of the run's other calls has ended and given back what it did not take.

        False where there is none.
        """
        if not self._under_way:
            return False
        await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        return True

    @contextmanager
    def _one_more_under_way(self) -> Iterator[None]:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.add(ended)
        try:
            yield
        finally:
            self._under_way.discard(ended)
            ended.set_result(None)

    async def _admitted(
        self, number: int, caller: ModelCaller, why: str, question: Question
    ) -> Refusal | Admitted:
        """Bind the worst of a call, at the price that holds now, once it may be made."""
        while True:
            model = caller.model
            worst = worst_step(model, why, question, self.limits.max_output(caller, question))
            basis = self.limits.basis(caller, model, question)
            admission = asyncio.ensure_future(asyncio.to_thread(self._admit, number, worst, basis))
            try:
                answer = await asyncio.shield(admission)
            except asyncio.CancelledError:
                await to_the_end(self._not_made(admission, number, caller, worst))
                raise
            if isinstance(answer, Refusal):
                return answer
            if isinstance(answer, LimitChanged):
                self.limits.changed(model.name, answer.record)
            elif answer is None or answer.is_mine:
                return Admitted(model, worst, answer is not None)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _not_made(
        self, admission: asyncio.Future[Answer], number: int, caller: ModelCaller, worst: Step
    ) -> None:
        """Give back what a call was admitted for that is not made."""
        with suppress(FleetError):
            answer = await admission
            if answer is None or answer == Turn(is_mine=True):
                await self._shows(number, caller, None, answer is not None)
                await self._charge(number, not_made(worst))

    def _admit(
        self, number: int, worst: Step, basis: LimitBasis = NO_BASIS
    ) -> Answer:
        """Bind the worst case under the limits in force. Blocks."""
        lease = self.lease
        for _ in range(MAX_CHANGES):
            version, controls = self.policy.now
            limits = step_limits(controls, version, lease.tenant, lease.agent_type, worst.model)
            try:
                answer = self.steps.admit(lease, number, worst, limits, basis)
            except Unavailable as error:
                if self.policy.config.budgets.redis_away == "closed":
                    raise
                log.warning("a step is made without being admitted", error=str(error))
                return None
            if not isinstance(answer, str):
                return answer
            self.policy.follow()
        raise Unavailable(
            f"the policy has changed {MAX_CHANGES} times while a step was admitted; find out who "
            "keeps changing it: `fleet audit`"
        )

    def _warn_of_more(self, worst: Step, step: Step) -> None:
        if step.cost_nanodollars > worst.cost_nanodollars:
            log.warning(
                "a model call cost more than its worst case",
                task=self.lease.task_id,
                model=step.model,
                cost=step.cost_nanodollars,
                worst=worst.cost_nanodollars,
            )

    def learn(self, reward: float) -> None:
        """Count how good the last answer was, 0 to 1, for the model that gave it. Blocks.

        A run says one thing of a model: what comes later is left out, and what is said by a later
        run of an answer that it did not ask for itself.
        """
        if self.learns and self.answered and self.answered not in self._learned:
            self._learned.add(self.answered)
            kind = self.lease.request_type
            lesson = Lesson(self.lease.task_id, f"answer {self.answered_in} {self.answered}")
            if not self._note(self.state.learn, self.answered, kind, float(reward), 1.0, lesson):
                return
            text = sketch(text_of(self.lessons.payload)).to_bytes()
            self._note(self.lessons.examples.add, kind, self.answered, float(reward), text)

    def warm(self, key_id: str | None, name: str, until: float) -> None:
        """A model has answered after a cool-down, of its own or its key's, that was to last until
        then. Blocks."""
        self._note(self.state.warm, key_id, name, until)

    async def _charge(
        self, number: int, step: Step, save_as: str = "", reply: ModelReply | None = None
    ) -> None:
        settle = asyncio.to_thread(self._settle, number, step, save_as, reply)
        settled = asyncio.ensure_future(settle)
        try:
            spent = await asyncio.shield(settled)
        except asyncio.CancelledError:
            # The run ends only when it is written: or it would be charged as lost first.
            with suppress(Exception):
                await to_the_end(settled)
            raise
        except Unavailable as error:
            # Of another class: an agent may go on without a model, but not without the charge.
            message = f"a model's call could not be charged to the task: {error}"
            raise RetryLater(message, error.retry_after) from error
        self.spent = max(self.spent, spent)

    def _settle(self, number: int, step: Step, save_as: str, reply: ModelReply | None) -> int:
        """Charge the call, and save its answer in the same step where that is asked for. Blocks."""
        if reply is None or not save_as:
            return self.steps.settle(self.lease, number, step)
        answer = reply.model_dump_json()
        asked = self.lease, number, step, save_as, answer
        spent, kept = self.steps.settle_and_save(*asked)
        if kept:
            self.checkpoints.note(save_as, answer)
        else:
            log.warning("an answer is too large to be saved", task=self.lease.task_id, name=save_as)
        return spent

    async def leave_alone(
        self, model: Model, error: FleetError, *, key_serves: bool = False
    ) -> None:
        """Have the fleet leave a model, or all of its key, alone after this error, as long as is of
        use. `key_serves` says that another model of the key has answered."""
        failure = failure_of(error)
        if not failure.cools or model.key_id is None:
            return
        if error.reason:
            name = WHOLE_KEY if is_of_the_key(error) and not key_serves else model.name
            long = (model.key_id, name, error.reason)
            await asyncio.to_thread(self._note, self.state.cool_for_long, *long)
        else:
            cooled = (model.key_id, model.name, failure.cools, _asked_seconds(error))
            await asyncio.to_thread(self._note, self.state.cool, *cooled)

    def _note(self, write: Callable[..., Any], *what: Any) -> Any:
        """Write what others may want to know, if that can be done; what the write gives. Blocks."""
        try:
            return write(*what)
        except RetryLater as error:
            log.warning("nothing was learned of a model", error=str(error), of=what)
            return None


def is_of_the_key(error: FleetError) -> bool:
    """Whether it seems that no model of the key is served."""
    return isinstance(error, NotAllowed) or (isinstance(error, QuotaExhausted) and error.whole_key)


def _asked_seconds(error: FleetError) -> float | None:
    """How long the model is to be left alone; None where nobody said, or said less than usual."""
    if not isinstance(error, Unavailable):
        return None
    # An outage that says to come back at once may be the tenth in a row.
    short = not isinstance(error, RateLimited) and error.retry_after <= SHORT_SECONDS
    return None if short else error.retry_after
