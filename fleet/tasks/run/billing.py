"""Billing of a model call: how it may end, and what is charged for it then.

    answered                       what its provider says that it took
    answered without usage         its upper bound, as uncertain
    answered, and the usage        its largest reading, as uncertain: `fleet.models.rules.usage`
    contradicts itself
    may have been served, untold   its upper bound: a cut connection, a time-out, a cancellation
    cut while its answer came in   a bound by what had arrived, as uncertain:
                                   `fleet.models.rules.cut_calls`
    was not served                 nothing: a provider's error, a refused connection or key

Values in, values out: nothing here reads Redis or asks a model.
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
from fleet.models.rules.catalogue import Model, cut_nanodollars, upper_bound_nanodollars
from fleet.models.rules.cut_calls import Cut, cut_tokens
from fleet.models.rules.output_limits import Shown
from fleet.models.rules.upper_bound import least_tokens, upper_bound_tokens
from fleet.models.rules.usage import CONTRADICTORY, MISSING, SEEN, UNPRICED
from fleet.money import Tokens
from fleet.tasks.model_call import ANSWERED, ModelCall

NOT_MADE = "not made"
"""How a call ended whose run was cancelled while it was admitted."""

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


def upper_bound(model: Model, why: str, question: Question, output: int | None = None) -> ModelCall:
    """The most that a call may take. A model without a price has none here either.

    `output` are the most tokens that its answer may have, where that is not what is asked for.
    """
    most = question.max_tokens if output is None else output
    tokens = upper_bound_tokens(question.prompt, question.instructions, most)
    priced = model.free or model.price is not None
    return ModelCall(
        model.name,
        model.provider,
        why[:MAX_WHY],
        "",
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cost_nanodollars=upper_bound_nanodollars(model, tokens) if priced else 0,
    )


def bound_of_cut(bound: ModelCall, model: Model, cut: Cut) -> ModelCall:
    """The most that a call may have taken, by what had arrived when it was cut."""
    used = cut_tokens(Tokens(bound.input_tokens, bound.output_tokens), cut)
    priced = model.free or model.price is not None
    most = cut_nanodollars if cut.told.input else upper_bound_nanodollars
    return replace(
        bound,
        input_tokens=used.input,
        cached_input_tokens=used.cached_input,
        cache_write_tokens=used.cache_write,
        output_tokens=used.output,
        cost_nanodollars=most(model, used) if priced else 0,
    )


def bill_answer(
    bound: ModelCall, model: Model, reply: ModelReply, max_tokens: int, cut: Cut | None = None
) -> ModelCall:
    """What is charged for a call that gave an answer, which was asked to have no more than
    `max_tokens`."""
    if cut is None and reply.usage_missing and least_tokens(reply.text) > max_tokens:
        # The answer is longer than it was asked to be: a token is a byte of it at least.
        size = len(reply.text.encode(errors="surrogatepass"))
        cut = Cut(size, 0.0, Tokens(0, 0), over=True)
    most = bound_of_cut(bound, model, cut) if cut else bound
    return _told(most, ANSWERED, reply, reply.seconds)


def bill_failure(
    bound: ModelCall, model: Model, error: BaseException, seconds: float, cut: Cut | None = None
) -> ModelCall:
    """What is charged for a call that ended in an error after so long. `cut` is what had arrived of
    its answer; None where it had not begun."""
    failure = failure_of(error)
    most = bound_of_cut(bound, model, cut) if cut else bound
    reply = error.reply if isinstance(error, ModelRefused | Unavailable) else None
    if isinstance(reply, ModelReply):
        return _told(most, failure.ended, reply, seconds)
    if cut or _burns(failure, error):
        return _ended(most, failure.ended, seconds, MISSING)
    return _nothing_used(_ended(most, failure.ended, seconds))


def bill_unmade(bound: ModelCall) -> ModelCall:
    """What is charged for a call that was admitted, and not made after all."""
    return _nothing_used(_ended(bound, NOT_MADE, 0.0))


def shown_by(
    reply: ModelReply, billed: ModelCall, max_tokens: int, *, was_cut: bool
) -> Shown | None:
    """What an answer, and what is charged for it, show of the limit that it was asked to keep. None
    where its provider does not tell, and its words do not either."""
    if reply.usage_missing and not was_cut and least_tokens(reply.text) <= max_tokens:
        return None
    written = max(billed.output_tokens, least_tokens(reply.text))
    return Shown(max_tokens, written, not was_cut and reply.finish_reason == "length")


def _burns(failure: Failure, error: BaseException) -> bool:
    """Whether a provider may bill the call, though it told nothing of what it took."""
    return failure.burns and (not isinstance(error, Unavailable) or error.may_be_served)


def _told(bound: ModelCall, ended: str, reply: ModelReply, seconds: float) -> ModelCall:
    """What its provider told; its upper bound where that is nothing."""
    if reply.usage_missing:
        return _ended(_with_told(bound, reply), ended, seconds, MISSING)
    return replace(
        _ended(bound, ended, seconds, _usage_of(reply)),
        input_tokens=reply.input_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        output_tokens=reply.output_tokens,
        cost_nanodollars=reply.cost_nanodollars,
        reasoning_tokens=reply.reasoning_tokens,
        cache_write_tokens=reply.cache_write_tokens,
    )


def _with_told(bound: ModelCall, reply: ModelReply) -> ModelCall:
    """The upper bound, or what a part of the call's usage tells where that is more: a server may
    put a prompt of its own before what it is asked."""
    return replace(
        bound,
        input_tokens=max(bound.input_tokens, reply.input_tokens),
        output_tokens=max(bound.output_tokens, reply.output_tokens),
        cost_nanodollars=max(bound.cost_nanodollars, reply.cost_nanodollars),
    )


def _usage_of(reply: ModelReply) -> str:
    if reply.unpriced:
        return UNPRICED
    return CONTRADICTORY if reply.usage_contradictory else SEEN


def _ended(bound: ModelCall, ended: str, seconds: float, usage: str = SEEN) -> ModelCall:
    return replace(bound, ended=ended, seconds=round(seconds, 6), usage=usage)


def _nothing_used(call: ModelCall) -> ModelCall:
    return replace(call, input_tokens=0, output_tokens=0, cost_nanodollars=0)
