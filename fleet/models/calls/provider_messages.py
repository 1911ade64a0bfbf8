"""The messages of providers about faults that last until a person fixes them.

Most providers have a separate status for these faults, and many use the status of a bad request:
Anthropic a 400 for an account without credit, OpenAI a 400 for a parameter that a model does not
accept, Google a 400 for a region, Groq a 400 for a withdrawn model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

FaultKind = Literal["credit", "region", "key", "model", "parameter"]

PHRASES: Mapping[FaultKind, tuple[str, ...]] = {
    "credit": (
        "credit balance is too low",  # Anthropic
        "api usage limits",  # Anthropic, where a limit of one's own is reached
        "usage limit",  # OpenAI's plans, and others
        "usage_limit_reached",
        "insufficient balance",  # DeepSeek
        "insufficient_balance",
        "not enough balance",
        "not_enough_balance",
        "insufficient credit",  # OpenRouter
        "insufficient_credit",
        "insufficient funds",
        "insufficient_funds",
        "requires more credits",  # OpenRouter
        "out of credits",
        "no credits",
        "credit_balance",
        "insufficient_quota",  # OpenAI
        "exceeded your current quota",
        "exceeded_current_quota_error",  # Moonshot
        "billing_hard_limit_reached",  # OpenAI
        "billing hard limit",
        "billing_not_active",  # OpenAI
        "account is not active",
        "enable billing",  # Google
        "spend limit",
        "spending limit",
        "spend_limit",
        "key limit exceeded",  # OpenRouter
        "payment required",
        "payment_required",
        "arrearage",  # Alibaba
        "budget_exceeded",  # LiteLLM
        "budget has been exceeded",
        "monthly budget",
        "monthly quota",
        "monthly token",
        "monthly limit",
        "monthly included credits",  # Hugging Face
        "unpaid invoice",
    ),
    "region": (
        "unsupported_country_region_territory",  # OpenAI
        "country, region, or territory not supported",
        "location is not supported",  # Google
        "not available in your country",
        "not available in your region",
        "region is not supported",
        "region not supported",
    ),
    "key": (
        "invalid_api_key",
        "invalid api key",
        "incorrect api key",
        "api key not valid",  # Google
        "api_key_invalid",
        "api key expired",
        "account_deactivated",  # OpenAI
        "organization has been disabled",  # Anthropic
        "account has been disabled",
        "account is suspended",
        "account suspended",
        "has been suspended",
    ),
    "model": (
        "model_not_found",
        "model not found",
        "model not exist",  # DeepSeek
        "model_decommissioned",  # Groq
        "decommissioned",
        "model_not_available",
        "model_not_supported",
        "model is not supported",
        "invalid_model",  # Mistral
        "invalid model",
        "unknown model",
        "not a valid model",  # OpenRouter
        "no endpoints found",  # OpenRouter
        "model identifier is invalid",  # Bedrock
        "on-demand throughput isn",  # Bedrock
        "access to the model",  # Bedrock
        "does not have access to model",  # OpenAI
        "verified to use the model",  # OpenAI
        "model does not exist",
        "model has been deprecated",
        "model has been retired",
        "no longer available",
        "no longer supported",
        "no such model",
        "unsupported model",
        "unsupported_model",
        "modelnotfound",
    ),
    "parameter": (
        "unsupported_parameter",  # OpenAI
        "unsupported parameter",
        "unsupported_value",
        "unsupported value",
        "unknown_parameter",
        "unknown parameter",
        "unrecognized request argument",
        "unrecognized parameter",
        "unexpected keyword",
        "unexpected field",
        "unexpected parameter",
        "unknown argument",
        "unknown keyword",
        "unsupported argument",
        "unsupportedparams",  # LiteLLM
        "may only be set",  # Anthropic
        "extra inputs are not permitted",  # Anthropic, vLLM
        "extra_forbidden",  # Mistral
        "unknown name",  # Google
        "unknown field",
        "additional properties",
        "does not support",
        "not supported",
        "is unsupported",  # Groq
        "is deprecated for this model",  # Anthropic
    ),
}
"""In the order of the search. Phrases without a name are used by many providers."""

PATTERNS: Mapping[FaultKind, re.Pattern[str]] = {
    "credit": re.compile(
        r"\b(quota|(?<!thinking )(?<!token )budget|credits?|balance)\b.{0,40}"
        r"\b(exceeded|exhausted|used up|depleted|too low)"
        r"|\b(exceeded|exhausted|out of|insufficient|depleted)\b.{0,40}"
        r"\b(quota|(?<!thinking )(?<!token )budget|credits?|balance)\b"
    ),
    "model": re.compile(
        r"\bmodel[\s:=]*[`'\"]?[\w./:@-]*[`'\"]?(?:\s+(?:is|was|has|have|been|does|now|reached))*\s+"
        r"(?:not found|not exist|deprecated|retired|shut ?down|withdrawn|removed|discontinued|"
        r"sunset|end of life|gone|not available(?! with))\b"
        r"|\bmodel:? \S{1,80} is not supported\b"
    ),
}
"""Phrases with a name or a figure between the words."""

TOO_LONG = (
    "context_length_exceeded",  # OpenAI's code
    "maximum context length",  # OpenAI's sentence; vLLM, OpenRouter, Mistral
    "reduce the length of the messages",  # Groq
    "exceed_context_size_error",  # llama.cpp's type
    "exceeds the available context size",  # llama.cpp's sentence
    "prompt is too long",  # Anthropic
    "exceed context limit",  # Anthropic, where it is the answer that would not fit
    "maximum number of tokens allowed",  # Google
    "input is too long",  # Bedrock
    "input tokens exceeded",  # Bedrock
)
"""Phrases for a prompt that is too long. Pydantic AI knows each from its own provider's client, but
not through the OpenAI protocol."""

REFUSED = (
    "content_filter",  # Azure, and others that speak the OpenAI protocol
    "content_policy_violation",  # OpenAI
    "invalid_prompt",  # OpenAI, of reasoning models
    "responsibleaipolicyviolation",  # Azure's inner code
    "moderation_blocked",  # OpenAI
    "our safety system",  # OpenAI
    "content filtering policy",  # Anthropic
    "content exists risk",  # DeepSeek
    "data_inspection_failed",  # Alibaba
    "considered high risk",  # Moonshot
)
"""Phrases for a prompt or an answer that the provider's filter rejects."""

OF_RATES = (
    *("rate limit", "rate_limit", "ratelimit", "rate-limit", "request limit", "too many requests"),
    *("toomanyrequests", "throttl", "per minute", "per min)", "per second", "slow down"),
)
"""Phrases for a rate limit, with any status."""

OVERLOADED = (
    *("overloaded", "over capacity", "at capacity", "capacity exceeded", "capacity_exceeded"),
    *("try again later", "temporarily unavailable", "service unavailable", "timed out"),
)

NO_KEY = (
    *("unauthorized", "unauthorised", "unauthenticated", "authentication", "invalidapikey"),
    *("api key", "api-key", "api_key", "invalid token", "invalid access token"),
)

SAID_OF_RATES = frozenset({"exceeded your current quota", "usage limit", "enable billing"})
"""Phrases that some providers also use for a limit per minute."""

BY_STATUS: Mapping[int, FaultKind] = {
    **{401: "key", 402: "credit", 403: "key", 404: "model", 410: "model", 451: "region"}
}
"""The fault by status, if no phrase matches."""

TOLD_IN = frozenset(
    {
        *("message", "msg", "code", "type", "status", "reason", "error", "errors", "detail"),
        *("details", "metadata", "innererror", "raw", "error_msg"),
    }
)
"""The fields with the text of an error. Others may repeat the prompt."""

MAX_CHARACTERS = 500
MAX_DEPTH = 5


def says(told: str, phrases: Iterable[str]) -> bool:
    """Whether an error has one of these phrases."""
    return any(phrase in told for phrase in phrases)


def no_credit(told: str) -> bool:
    """Whether an error certainly means that an account is used up, with any status."""
    return says(told, (each for each in PHRASES["credit"] if each not in SAID_OF_RATES))


def lasting_fault(status: int | None, told: str, *, is_page: bool) -> FaultKind | None:
    """The lasting fault of a provider, from its error `told` in lower case, or None.

    `is_page` says that the error is only a web page, from a proxy in front of the provider: such a
    403 may be about the prompt, and such a 404 about a restart.
    """
    by_words = (kind for kind, phrases in PHRASES.items() if says(told, phrases))
    by_pattern = (kind for kind, pattern in PATTERNS.items() if pattern.search(told))
    # Parameters come last: their phrases are also used for models.
    found = [*by_words, *by_pattern]
    if found[:1] == ["parameter"] and "model" in found:
        found = ["model"]
    by_status = None if is_page and status in (403, 404) else BY_STATUS.get(status or 0)
    return next(iter(found), None) or by_status


AT_THE_HEAD = re.compile(r"(?:\W|http\S{0,8}|error|status|code)*([45]\d\d)\b")


def status_said(message: str) -> int | None:
    """The HTTP status that an error's message implies, for an error without a status."""
    told = message[:MAX_CHARACTERS].lower()
    if (number := AT_THE_HEAD.match(told)) is not None:
        return int(number[1])
    kinds: tuple[tuple[bool, int], ...] = (
        (no_credit(told), 402),
        (says(told, OF_RATES), 429),
        (says(told, (*TOO_LONG, *REFUSED)), 400),
        (lasting_fault(None, told, is_page=False) is not None, 400),
        (says(told, NO_KEY), 401),
        (says(told, OVERLOADED), 503),
    )
    return next((status for holds, status in kinds if holds), None)


def told_in(body: object, depth: int = 0) -> Iterator[str]:
    """The texts in an error's body, without fields that may repeat the request."""
    if isinstance(body, str):
        yield body[:MAX_CHARACTERS]
    elif depth < MAX_DEPTH and isinstance(body, Mapping | list):
        inner = body.items() if isinstance(body, Mapping) else enumerate(body)
        for key, value in inner:
            if key in TOLD_IN or isinstance(key, int):
                yield from told_in(value, depth + 1)
