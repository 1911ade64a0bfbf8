"""How providers say that they will serve nothing until somebody mends it.

Most send a status of their own for it, and many the one of a bad request: Anthropic a 400 for an
account without credit, OpenAI a 400 for a parameter that one of its models does not take, Google a
400 for a region, Groq a 400 for a model that was withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

Standing = Literal["credit", "region", "key", "model", "parameter"]

PHRASES: Mapping[Standing, tuple[str, ...]] = {
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
"""In the order in which they are looked for. Those without a name are said by many."""

SAID_OF_RATES = frozenset({"exceeded your current quota", "usage limit", "enable billing"})
"""What some say of an allowance for a minute, too."""

BY_STATUS: Mapping[int, Standing] = {401: "key", 402: "credit", 403: "key", 404: "model"}
"""What a status says where no words do."""

TOLD_IN = frozenset(
    {
        *("message", "msg", "code", "type", "status", "reason", "error", "errors", "detail"),
        *("details", "metadata", "innererror", "raw", "error_msg"),
    }
)
"""The fields in which an error is told; others may repeat the prompt."""

MOST_CHARACTERS = 500
MOST_DEPTH = 5


def says(told: str, phrases: Iterable[str]) -> bool:
    """Whether an error says one of these."""
    return any(phrase in told for phrase in phrases)


def no_credit(told: str) -> bool:
    """Whether an error says beyond doubt that an account has nothing left, whatever its status."""
    return says(told, (each for each in PHRASES["credit"] if each not in SAID_OF_RATES))


def standing_fault(status: int | None, told: str, *, is_page: bool) -> Standing | None:
    """Why a provider will serve nothing for long, as `told` in lower case.

    `is_page` says that it is told on no more than a page, which is of what stands before the
    provider: a 403 of that sort may have taken offence at the prompt, and a 404 at a restart.
    """
    found = (kind for kind, phrases in PHRASES.items() if says(told, phrases))
    by_status = None if is_page and status in (403, 404) else BY_STATUS.get(status or 0)
    return next(found, None) or by_status


def told_in(body: object, depth: int = 0) -> Iterator[str]:
    """The words of an error's body, without what it may repeat of the request."""
    if isinstance(body, str):
        yield body[:MOST_CHARACTERS]
    elif depth < MOST_DEPTH and isinstance(body, Mapping | list):
        inner = body.items() if isinstance(body, Mapping) else enumerate(body)
        for key, value in inner:
            if key in TOLD_IN or isinstance(key, int):
                yield from told_in(value, depth + 1)
