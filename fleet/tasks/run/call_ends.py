"""How a model call may end, and what is charged for it then.

    answered                       what its provider says that it took
    answered without usage         its worst, as uncertain
    answered, and the usage        its largest reading, as uncertain: `fleet.models.rules.usage`
    contradicts itself
    may have been served, untold   the same: a cut connection, a time-out, a cancellation
    cut while its answer came in   a bound by what had arrived, as uncertain:
    `fleet.models.rules.cut_calls`
    was not served                 nothing: a provider's error, a refused connection or key
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import NamedTuple

from fleet.agent import ModelReply
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelNotServed,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from fleet.ledger.rules.entries import CONTRADICTORY, MISSING, SEEN, UNPRICED
from fleet.models.rules.catalogue import Model, cut_nanodollars, upper_bound_nanodollars
from fleet.models.rules.cut_calls import Cut, cut_tokens
from fleet.models.rules.output_limits import Shown
from fleet.models.rules.upper_bound import least_tokens, upper_bound_tokens
from fleet.money import Tokens
from fleet.tasks.record import ANSWERED, Step

NOT_MADE = "not made"
"""How a step ended whose run was cancelled while it was admitted."""

MAX_WHY = 200
"""Characters of a reason that are kept: an agent may give a long one."""


class Question(NamedTuple):
    """What a model is asked."""

    prompt: str
    instructions: str
    max_tokens: int
    temperature: float


class Failure(NamedTuple):
    """A way for a call to end after which another model may do.

    `cools` is why the model is left alone for a while then, empty where it is not: the prompt
    was at fault. An error with a `reason` has it left alone until somebody may have mended that.
    `burns` says that tokens may have been used that were never seen.
    """

    error: type[FleetError]
    ended: str
    cools: str = ""
    burns: bool = False


REJECTED = Failure(NeverRetry, "rejected", cools="refusing what others take")
"""The provider would not take the request: no model has seen it. The model is left alone where
another one takes it; where none does, the request is at fault."""

FAILURES = (
    Failure(QuotaExhausted, "quota exhausted", cools="a lack of credit or quota"),
    Failure(RateLimited, "rate limited", cools="a rate limit"),
    Failure(Unavailable, "unavailable", cools="an outage", burns=True),
    Failure(NotAllowed, "key refused", cools="a refused key"),
    Failure(ModelNotServed, "not served", cools="not being served"),
    Failure(ContextWindowExceeded, "context window exceeded"),
    Failure(ModelRefused, "refused"),
    Failure(InvalidConfig, "cannot be reached by this worker"),
    REJECTED,
)
CANCELLED = Failure(FleetError, "cancelled", burns=True)
FAILED = Failure(FleetError, "failed", burns=True)


def failure_of(error: BaseException) -> Failure:
    """The way in which a call ended with this error."""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    # In this order: some are kinds of what comes after them.
    return next((each for each in FAILURES if isinstance(error, each.error)), FAILED)


def worst_step(model: Model, why: str, question: Question, output: int | None = None) -> Step:
    """The call as it will be at worst. A model without a price has none here either.

    `output` are the most tokens that its answer may have, where that is not what is asked for.
    """
    most = question.max_tokens if output is None else output
    worst = upper_bound_tokens(question.prompt, question.instructions, most)
    priced = model.free or model.price is not None
    return Step(
        model.name,
        model.provider,
        why[:MAX_WHY],
        "",
        input_tokens=worst.input,
        output_tokens=worst.output,
        cost_nanodollars=upper_bound_nanodollars(model, worst) if priced else 0,
    )


def cut_step(worst: Step, model: Model, cut: Cut) -> Step:
    """The call at worst, now that it is known what had arrived when it was cut."""
    used = cut_tokens(Tokens(worst.input_tokens, worst.output_tokens), cut)
    priced = model.free or model.price is not None
    most = cut_nanodollars if cut.told.input else upper_bound_nanodollars
    return replace(
        worst,
        input_tokens=used.input,
        cached_input_tokens=used.cached_input,
        cache_write_tokens=used.cache_write,
        output_tokens=used.output,
        cost_nanodollars=most(model, used) if priced else 0,
    )


def shown_by(reply: ModelReply, step: Step, asked: int, *, was_cut: bool) -> Shown | None:
    """What an answer, and what is charged for it, show of the limit that it was asked to keep. None
    where its provider does not tell, and its words do not either."""
    if reply.usage_missing and not was_cut and least_tokens(reply.text) <= asked:
        return None
    written = max(step.output_tokens, least_tokens(reply.text))
    return Shown(asked, written, not was_cut and reply.finish_reason == "length")


def max_of_untold(worst: Step, model: Model, reply: ModelReply, asked: int) -> Step:
    """The call at worst, where its provider tells nothing of an answer that is longer than it was
    asked to be: a token is a byte of it at least."""
    if not reply.usage_missing or least_tokens(reply.text) <= asked:
        return worst
    size = len(reply.text.encode(errors="surrogatepass"))
    return cut_step(worst, model, Cut(size, 0.0, Tokens(0, 0), over=True))


def answered(worst: Step, reply: ModelReply) -> Step:
    """What is charged for a call that gave an answer."""
    return _told(worst, ANSWERED, reply, reply.seconds)


def failed(
    worst: Step, failure: Failure, error: BaseException, seconds: float, *, begun: bool
) -> Step:
    """What is charged for a call that gave none, or had `begun` to give one."""
    reply = error.reply if isinstance(error, ModelRefused | Unavailable) else None
    if isinstance(reply, ModelReply):
        return _told(worst, failure.ended, reply, seconds)
    if begun or _burns(failure, error):
        return _ended(worst, failure.ended, seconds, MISSING)
    return _nothing_used(_ended(worst, failure.ended, seconds))


def not_made(worst: Step) -> Step:
    """What is charged for a call that was admitted, and not made after all."""
    return _nothing_used(_ended(worst, NOT_MADE, 0.0))


def _burns(failure: Failure, error: BaseException) -> bool:
    """Whether a provider may bill the call, though it told nothing of what it took."""
    return failure.burns and (not isinstance(error, Unavailable) or error.may_be_served)


def _told(worst: Step, ended: str, reply: ModelReply, seconds: float) -> Step:
    """What its provider told; where that is nothing the call was as it is at worst."""
    if reply.usage_missing:
        return _ended(_with_told(worst, reply), ended, seconds, MISSING)
    return replace(
        _ended(worst, ended, seconds, _usage_of(reply)),
        input_tokens=reply.input_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        output_tokens=reply.output_tokens,
        cost_nanodollars=reply.cost_nanodollars,
        reasoning_tokens=reply.reasoning_tokens,
        cache_write_tokens=reply.cache_write_tokens,
    )


def _with_told(worst: Step, reply: ModelReply) -> Step:
    """The call at worst, or what a part of its usage tells where that is more: a server may put a
    prompt of its own before what it is asked."""
    return replace(
        worst,
        input_tokens=max(worst.input_tokens, reply.input_tokens),
        output_tokens=max(worst.output_tokens, reply.output_tokens),
        cost_nanodollars=max(worst.cost_nanodollars, reply.cost_nanodollars),
    )


def _usage_of(reply: ModelReply) -> str:
    if reply.unpriced:
        return UNPRICED
    return CONTRADICTORY if reply.usage_contradictory else SEEN


def _ended(worst: Step, ended: str, seconds: float, usage: str = SEEN) -> Step:
    return replace(worst, ended=ended, seconds=round(seconds, 6), usage=usage)


def _nothing_used(step: Step) -> Step:
    return replace(step, input_tokens=0, output_tokens=0, cost_nanodollars=0)
