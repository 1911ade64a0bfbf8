"""One call of a model: admits it, makes it, charges it, and writes down what it says of the model.

A call is made once its worst case is bound, see `fleet.core.worst_case`, and not where that does
not fit a limit. What it takes is charged to the task, or the run fails: spend is never lost. What
was never told of a call that may have been served is charged at its worst, as uncertain. What is
learned from a call is a help to others, so that where it cannot be written a line in the log is
enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

import structlog

from fleet.adapters.model_calls import ModelCaller
from fleet.agent import ModelReply
from fleet.core.difficulty.payload_text import text_of
from fleet.core.difficulty.text_features import sketch
from fleet.core.ledger_entries import MISSING, SEEN, UNPRICED
from fleet.core.models import Model, worst_nanodollars
from fleet.core.refusals import Refusal
from fleet.core.worst_case import worst_tokens
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    RateLimited,
    RetryLater,
    Unavailable,
)
from fleet.services.money_rules import step_limits
from fleet.services.policy_in_force import PolicyInForce
from fleet.state.examples import Examples
from fleet.state.models import ModelState
from fleet.state.records import ANSWERED, Step
from fleet.state.steps import Steps
from fleet.state.tasks import Lease

REFUSED_KEY_SECONDS = 300.0
"""A key that is refused stays so until somebody mends it."""

SHORT_SECONDS = 5.0
"""After an outage a model is left alone for so long at least, see `ModelState.cool`."""

MOST_CHANGES = 5
"""So often the limits are read anew for one step."""

MOST_WHY = 200
"""Characters of a reason that are kept: an agent may give a long one."""

log = structlog.get_logger(__name__)


class Question(NamedTuple):
    """What a model is asked."""

    prompt: str
    instructions: str
    max_tokens: int
    temperature: float


class Failure(NamedTuple):
    """A way for a call to end after which another model may do.

    `cools` is why the model is left alone for a while then, empty where it is not: the prompt
    was at fault. `burns` says that tokens may have been used that were never seen.
    """

    error: type[FleetError]
    ended: str
    cools: str = ""
    burns: bool = False


FAILURES = (
    Failure(RateLimited, "rate limited", cools="a rate limit"),
    Failure(Unavailable, "unavailable", cools="an outage", burns=True),
    Failure(NotAllowed, "key refused", cools="a refused key"),
    Failure(ContextWindowExceeded, "context window exceeded"),
    Failure(ModelRefused, "refused"),
)
CANNOT_REACH = Failure(InvalidConfig, "cannot be reached by this worker")
REJECTED = Failure(NeverRetry, "failed")
"""The provider would not take the request: no model has seen it."""
CANCELLED = Failure(FleetError, "cancelled", burns=True)
FAILED = Failure(FleetError, "failed", burns=True)


class Lessons(NamedTuple):
    """Where to write what a run teaches: of the models, and of texts like its payload's.

    Of the payload only a sketch without words is kept.
    """

    state: ModelState
    examples: Examples
    payload: Any


class StepWriter:
    """The calls of one run, in order."""

    def __init__(
        self,
        lease: Lease,
        steps: Steps,
        policy: PolicyInForce,
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
        self.answered = ""
        self._learned: set[str] = set()
        self._calls = count(1)

    @property
    def over(self) -> str:
        """What the policy says of a step that does not fit: `downgrade`, `wait` or `refuse`."""
        return self.policy.controls.over(self.lease.request_type, self.lease.tenant)

    async def call(
        self, caller: ModelCaller, why: str, question: Question
    ) -> ModelReply | FleetError | Refusal:
        """The reply, the error where another model may do better, or the limit that the call does
        not fit: then it was not made. Raises any other error."""
        number, model = next(self._calls), caller.model
        worst = _worst_step(model, why, question)
        refusal = await asyncio.to_thread(self._admit, number, worst)
        if refusal is not None:
            return refusal
        began = time.monotonic()
        try:
            reply = await caller.ask(*question)
        except BaseException as error:
            failure = failure_of(error)
            step = _failed_step(worst, failure, error, time.monotonic() - began)
            # The prompt may have been sent, and what came of it may never have been seen.
            await self._charge(number, step, MISSING if burns(failure, error) else SEEN)
            if failure not in FAILURES or not isinstance(error, FleetError):
                raise
            await self._leave_alone(model, failure, error)
            return error
        step = _step(worst, ANSWERED, reply, reply.seconds)
        await self._charge(number, step, _usage(reply))
        self._warn_of_more(worst, step)
        self.answered = step.model
        if self.learns and reply.output_tokens and step.seconds:
            kind = self.lease.request_type
            timed = (step.model, kind, reply.output_tokens, step.seconds)
            await asyncio.to_thread(self._note, self.state.timed, *timed)
        return reply

    def _admit(self, number: int, worst: Step) -> Refusal | None:
        """Bind the worst case under the limits in force. Blocks."""
        lease = self.lease
        for _ in range(MOST_CHANGES):
            version, controls = self.policy.now
            limits = step_limits(controls, version, lease.tenant, lease.agent_type, worst.model)
            try:
                answer = self.steps.admit(lease, number, worst, limits)
            except Unavailable as error:
                if self.policy.config.budgets.redis_away == "closed":
                    raise
                log.warning("a step is made without being admitted", error=str(error))
                return None
            if not isinstance(answer, str):
                return answer
            self.policy.follow()
        raise Unavailable(
            f"the policy has changed {MOST_CHANGES} times while a step was admitted; find out who "
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

        A run says one thing of a model: what comes later is left out.
        """
        if self.learns and self.answered and self.answered not in self._learned:
            self._learned.add(self.answered)
            kind = self.lease.request_type
            self._note(self.state.learn, self.answered, kind, float(reward))
            text = sketch(text_of(self.lessons.payload)).to_bytes()
            self._note(self.lessons.examples.add, kind, self.answered, float(reward), text)

    def warm(self, model: Model, until: float) -> None:
        """The model has answered after a cool-down that was to last until then. Blocks."""
        self._note(self.state.warm, model.key_id, model.name, until)

    async def _charge(self, number: int, step: Step, usage: str) -> None:
        charge = asyncio.to_thread(self.steps.settle, self.lease, number, step, usage=usage)
        try:
            # A cancellation must not keep the charge from being written.
            spent = await asyncio.shield(asyncio.ensure_future(charge))
        except Unavailable as error:
            # Of another class: an agent may go on without a model, but not without the charge.
            message = f"a model's call could not be charged to the task: {error}"
            raise RetryLater(message, error.retry_after) from error
        self.spent = max(self.spent, spent)

    async def _leave_alone(self, model: Model, failure: Failure, error: FleetError) -> None:
        if failure.cools and model.key_id is not None:
            cooled = (model.key_id, model.name, failure.cools, _asked_seconds(error))
            await asyncio.to_thread(self._note, self.state.cool, *cooled)

    def _note(self, write: Callable[..., Any], *what: Any) -> None:
        """Write what others may want to know, if that can be done. Blocks."""
        try:
            write(*what)
        except RetryLater as error:
            log.warning("nothing was learned of a model", error=str(error), of=what)


def failure_of(error: BaseException) -> Failure:
    """The way in which a call ended with this error."""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    # In this order: those before the last are kinds of its error.
    known = (*FAILURES, CANNOT_REACH, REJECTED)
    return next((each for each in known if isinstance(error, each.error)), FAILED)


def _asked_seconds(error: FleetError) -> float | None:
    """How long the model is to be left alone; None where nobody said, or said less than usual."""
    if isinstance(error, NotAllowed):
        return REFUSED_KEY_SECONDS
    assert isinstance(error, Unavailable)
    # An outage that says to come back at once may be the tenth in a row.
    short = not isinstance(error, RateLimited) and error.retry_after <= SHORT_SECONDS
    return None if short else error.retry_after


def burns(failure: Failure, error: BaseException) -> bool:
    """Whether a provider may bill the call, though it told nothing of what it took."""
    return failure.burns and (not isinstance(error, Unavailable) or error.may_be_served)


def _worst_step(model: Model, why: str, question: Question) -> Step:
    """The call as it will be at worst. A model without a price has none here either."""
    worst = worst_tokens(question.prompt, question.instructions, question.max_tokens)
    priced = model.free or model.price is not None
    return Step(
        model.name,
        model.provider,
        why[:MOST_WHY],
        "",
        input_tokens=worst.input,
        output_tokens=worst.output,
        cost_nanodollars=worst_nanodollars(model, worst) if priced else 0,
    )


def _failed_step(worst: Step, failure: Failure, error: BaseException, seconds: float) -> Step:
    reply = error.reply if isinstance(error, ModelRefused) else None
    if isinstance(reply, ModelReply):
        return _step(worst, failure.ended, reply, seconds)
    step = replace(worst, ended=failure.ended, seconds=round(seconds, 6))
    if burns(failure, error):
        return step
    return replace(step, input_tokens=0, output_tokens=0, cost_nanodollars=0)


def _step(worst: Step, ended: str, reply: ModelReply, seconds: float) -> Step:
    """The call as it was: what its provider did not tell is as it was at worst."""
    step = replace(worst, ended=ended, seconds=round(seconds, 6))
    if reply.usage_missing:
        return step
    return replace(
        step,
        input_tokens=reply.input_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        output_tokens=reply.output_tokens,
        cost_nanodollars=reply.cost_nanodollars,
        reasoning_tokens=reply.reasoning_tokens,
        cache_write_tokens=reply.cache_write_tokens,
    )


def _usage(reply: ModelReply) -> str:
    if reply.usage_missing:
        return MISSING
    return UNPRICED if reply.unpriced else SEEN
