"""One call of a model: makes it, charges it, and writes down what it says of the model.

What a call takes is charged to the task, or the run fails: spend is never lost. What is learned
from it is a help to others, so that where it cannot be written a line in the log is enough.
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
from fleet.core.models import Model
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
from fleet.state.examples import Examples
from fleet.state.models import ModelState
from fleet.state.records import ANSWERED, Step
from fleet.state.tasks import Lease, Tasks

REFUSED_KEY_SECONDS = 300.0
"""A key that is refused stays so until somebody mends it."""

SHORT_SECONDS = 5.0
"""After an outage a model is left alone for so long at least, see `ModelState.cool`."""

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

    def __init__(self, lease: Lease, tasks: Tasks, lessons: Lessons, learns: bool) -> None:
        """`learns` says whether the fleet learns from the run: its request type is configured."""
        self.lease = lease
        self.tasks = tasks
        self.state = lessons.state
        self.lessons = lessons
        self.learns = learns
        self.spent = lease.spent_nanodollars
        self.answered = ""
        self._learned: set[str] = set()
        self._calls = count(1)

    async def call(
        self, caller: ModelCaller, why: str, question: Question
    ) -> ModelReply | FleetError:
        """The reply, or the error where another model may do better. Raises any other."""
        began = time.monotonic()
        try:
            reply = await caller.ask(*question)
        except BaseException as error:
            failure = failure_of(error)
            step = _failed_step(caller.model, why, failure, error, time.monotonic() - began)
            # The prompt may have been sent, and what came of it may never have been seen.
            await self._charge(step, MISSING if failure.burns else SEEN)
            if failure not in FAILURES or not isinstance(error, FleetError):
                raise
            await self._leave_alone(caller.model, failure, error)
            return error
        step = _step(caller.model, why, ANSWERED, reply, reply.seconds)
        await self._charge(step, _usage(reply))
        self.answered = step.model
        if self.learns and step.output_tokens and step.seconds:
            kind = self.lease.request_type
            timed = (step.model, kind, step.output_tokens, step.seconds)
            await asyncio.to_thread(self._note, self.state.timed, *timed)
        return reply

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

    async def _charge(self, step: Step, usage: str) -> None:
        charge = asyncio.to_thread(
            self.tasks.add_usage, self.lease, next(self._calls), step, usage=usage
        )
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


def _failed_step(
    model: Model, why: str, failure: Failure, error: BaseException, seconds: float
) -> Step:
    reply = error.reply if isinstance(error, ModelRefused) else None
    return _step(
        model, why, failure.ended, reply if isinstance(reply, ModelReply) else None, seconds
    )


def _step(model: Model, why: str, ended: str, reply: ModelReply | None, seconds: float) -> Step:
    step = Step(model.name, model.provider, why[:MOST_WHY], ended, seconds=round(seconds, 6))
    if reply is None:
        return step
    return replace(
        step,
        input_tokens=reply.input_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        output_tokens=reply.output_tokens,
        cost_nanodollars=reply.cost_nanodollars,
        reasoning_tokens=reply.reasoning_tokens,
    )


def _usage(reply: ModelReply) -> str:
    if reply.usage_missing:
        return MISSING
    return UNPRICED if reply.unpriced else SEEN
