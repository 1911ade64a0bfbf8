"""Billing of a model call: how a call may end, and what is then charged.

    answered                       the usage that the provider reports
    answered without usage         the upper bound, as uncertain
    answered with contradictory    the largest reading, as uncertain: `fleet.models.rules.usage`
    usage
    possibly served, no usage      the upper bound: a cut connection, a time-out, a cancellation
    cut during its answer          a bound from what had arrived, as uncertain:
                                   `fleet.models.rules.cut_calls`
    not served                     nothing: a provider's error, a refused connection or key

Pure functions: nothing here reads Redis or calls a model.
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
    SecretsUnavailable,
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
"""`ended` of a call whose run was cancelled during its admission."""

MAX_REASON_CHARACTERS = 200
"""A longer reason, which an agent may give, is cut to this."""


class Question(NamedTuple):
    """A question to a model."""

    prompt: str
    instructions: str
    max_tokens: int
    temperature: float


class Failure(NamedTuple):
    """A failure of a call after which another model is tried.

    `cool_down_reason` is why the model then cools down; it is empty if the prompt was at fault and
    no cool-down follows. An error with a `reason` causes a long cool-down, until a person may have
    fixed the cause. With `may_be_billed` the provider may have used tokens that it did not report.
    """

    error: type[FleetError]
    ended: str
    cool_down_reason: str = ""
    may_be_billed: bool = False


REJECTED = Failure(NeverRetry, "rejected", cool_down_reason="refusing what others take")
"""The provider rejected the request before any model saw it. If another model accepts the request,
the rejecting one cools down; if none does, the request is at fault."""

FAILURES = (
    Failure(QuotaExhausted, "quota exhausted", cool_down_reason="a lack of credit or quota"),
    Failure(RateLimited, "rate limited", cool_down_reason="a rate limit"),
    Failure(SecretsUnavailable, "key not readable"),
    Failure(Unavailable, "unavailable", cool_down_reason="an outage", may_be_billed=True),
    Failure(NotAllowed, "key refused", cool_down_reason="a refused key"),
    Failure(ModelNotServed, "not served", cool_down_reason="not being served"),
    Failure(ContextWindowExceeded, "context window exceeded"),
    Failure(ModelRefused, "refused"),
    Failure(InvalidConfig, "cannot be reached by this worker"),
    REJECTED,
)
CANCELLED = Failure(FleetError, "cancelled", may_be_billed=True)
FAILED = Failure(FleetError, "failed", may_be_billed=True)


def failure_of(error: BaseException) -> Failure:
    """The kind of failure of an error."""
    if isinstance(error, asyncio.CancelledError):
        return CANCELLED
    # The order matters: some errors are subclasses of later ones.
    return next((each for each in FAILURES if isinstance(error, each.error)), FAILED)


def upper_bound(model: Model, why: str, question: Question, output: int | None = None) -> ModelCall:
    """The upper bound of a call's tokens and cost; the cost is 0 for a model without a price.

    `output` is the maximum of the answer's tokens, if it differs from `question.max_tokens`.
    """
    most = question.max_tokens if output is None else output
    tokens = upper_bound_tokens(question.prompt, question.instructions, most)
    priced = model.free or model.price is not None
    return ModelCall(
        model.name,
        model.provider,
        why[:MAX_REASON_CHARACTERS],
        "",
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cost_nanodollars=upper_bound_nanodollars(model, tokens) if priced else 0,
    )


def bound_of_cut(bound: ModelCall, model: Model, cut: Cut) -> ModelCall:
    """The upper bound of a call that was cut, from what had arrived by then."""
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
    """The record of a call that gave an answer and was limited to `max_tokens`."""
    if cut is None and reply.usage_missing and least_tokens(reply.text) > max_tokens:
        # The answer exceeds its limit: each token has at least one byte.
        size = len(reply.text.encode(errors="surrogatepass"))
        cut = Cut(size, 0.0, Tokens(0, 0), over=True)
    most = bound_of_cut(bound, model, cut) if cut else bound
    return _as_reported(most, ANSWERED, reply, reply.seconds)


def bill_failure(
    bound: ModelCall, model: Model, error: BaseException, seconds: float, cut: Cut | None = None
) -> ModelCall:
    """The record of a call that failed after `seconds`. `cut` is what had arrived of its answer,
    None if it had not begun."""
    failure = failure_of(error)
    most = bound_of_cut(bound, model, cut) if cut else bound
    reply = error.reply if isinstance(error, ModelRefused | Unavailable) else None
    if isinstance(reply, ModelReply):
        return _as_reported(most, failure.ended, reply, seconds)
    if cut or _may_be_billed(failure, error):
        return _ended(most, failure.ended, seconds, MISSING)
    return _nothing_used(_ended(most, failure.ended, seconds))


def bill_unmade(bound: ModelCall) -> ModelCall:
    """The record of a call that was admitted but not made: nothing is charged."""
    return _nothing_used(_ended(bound, NOT_MADE, 0.0))


def shown_by(
    reply: ModelReply, billed: ModelCall, max_tokens: int, *, was_cut: bool
) -> Shown | None:
    """What an answer shows about its model's output limit. None if neither the reported usage nor
    the text shows anything."""
    if reply.usage_missing and not was_cut and least_tokens(reply.text) <= max_tokens:
        return None
    written = max(billed.output_tokens, least_tokens(reply.text))
    return Shown(max_tokens, written, not was_cut and reply.finish_reason == "length")


def _may_be_billed(failure: Failure, error: BaseException) -> bool:
    """Whether the provider may bill the call although it reported no usage."""
    return failure.may_be_billed and (not isinstance(error, Unavailable) or error.may_be_served)


def _as_reported(bound: ModelCall, ended: str, reply: ModelReply, seconds: float) -> ModelCall:
    """The record with the usage that the provider reported, or with its upper bound."""
    if reply.usage_missing:
        return _ended(_at_least_as_reported(bound, reply), ended, seconds, MISSING)
    return replace(
        _ended(bound, ended, seconds, _usage_of(reply)),
        input_tokens=reply.input_tokens,
        cached_input_tokens=reply.cached_input_tokens,
        output_tokens=reply.output_tokens,
        cost_nanodollars=reply.cost_nanodollars,
        reasoning_tokens=reply.reasoning_tokens,
        cache_write_tokens=reply.cache_write_tokens,
    )


def _at_least_as_reported(bound: ModelCall, reply: ModelReply) -> ModelCall:
    """The upper bound, raised to a partial usage report if that is more: a server may prepend its
    own prompt."""
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
