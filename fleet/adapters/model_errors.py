"""What went wrong with a model call, as the one of Fleet's errors that says what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    UnexpectedModelBehavior,
)

from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    RateLimited,
    Unavailable,
)

RETRY_SECONDS = 1.0
"""When to come back to a provider that did not say."""

RATE_LIMIT_SECONDS = 10.0
"""The same after a 429: the limits of all providers are counted by the minute."""

QUOTA_SECONDS = 3600.0
"""The same where the account's quota is used up, which only a person or a new day mends."""

NOT_SENT = frozenset({"ConnectError", "ConnectTimeout"})
"""Causes that say that a provider was never reached; after any other the request may be served."""

TRY_LATER = frozenset({408, 409, 425})
"""With the 5xx: nothing is wrong with the request."""

CONTENT_TOO_LARGE = 413

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
"""How providers say that a prompt does not fit. Pydantic AI knows each from its own provider's
client, and not where the provider is reached by the OpenAI protocol."""

REFUSED = (
    "content_filter",  # Azure, and others that speak the OpenAI protocol
    "content_policy_violation",  # OpenAI
    "invalid_prompt",  # OpenAI, of reasoning models
    "responsibleaipolicyviolation",  # Azure's inner code
)
"""Codes for a prompt that a provider's filter does not let in."""


def translated(model: str, error: AgentRunError) -> FleetError:
    """Fleet's error for one of Pydantic AI's.

    The message holds the status and the provider's codes, never the body of its answer, which may
    repeat the prompt or the key.
    """
    reason = _reason(error)
    if _is_too_long(error):
        return ContextWindowExceeded(
            f"the prompt is too long for model {model} ({reason}); take one with a larger window, "
            "or send less"
        )
    if isinstance(error, ModelRateLimitError):
        return RateLimited(
            f"the provider of {model} takes no more for now ({reason})",
            _wait(error, RATE_LIMIT_SECONDS),
        )
    if isinstance(error, ModelQuotaExceededError):
        return RateLimited(
            f"the quota of {model}'s key is used up ({reason}); raise it, or set another key",
            _wait(error, QUOTA_SECONDS),
        )
    if isinstance(error, ModelHTTPError):
        return _rejection(model, error, reason)
    if isinstance(error, UnexpectedModelBehavior):
        return Unavailable(
            f"model {model} gave no answer that can be read ({reason}); where its server does not "
            "stream, set stream = false for the provider",
            may_be_served=True,
        )
    return Unavailable(
        f"model {model} cannot be had now ({reason})",
        _wait(error, RETRY_SECONDS),
        may_be_served=NOT_SENT.isdisjoint(_kinds(error)),
    )


def _rejection(model: str, error: ModelHTTPError, reason: str) -> FleetError:
    """For an HTTP status that is neither about the prompt's length nor about a limit."""
    status = error.status_code
    # First, since some codes that say to come back have a status that does not.
    if status >= 500 or status in TRY_LATER:
        wait = _wait(error, RETRY_SECONDS)
        return Unavailable(f"model {model} cannot be had now ({reason})", wait)
    if _says(error, REFUSED):
        return ModelRefused(f"the provider of {model} would not take the prompt ({reason})")
    if isinstance(error, ModelAuthenticationError):
        return NotAllowed(f"the provider of {model} refused the key ({reason}); check it")
    if isinstance(error, ModelNotFoundError):
        return NeverRetry(
            f"the provider of {model} has no such model ({reason}); check the model's name in the "
            "catalogue, and the provider's base_url"
        )
    return NeverRetry(f"the provider of {model} refused the request ({reason})")


def _is_too_long(error: AgentRunError) -> bool:
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelHTTPError):
        return False
    status = error.status_code
    return status == CONTENT_TOO_LARGE or (400 <= status < 500 and _says(error, TOO_LONG))


def _says(error: ModelHTTPError, phrases: tuple[str, ...]) -> bool:
    said = f"{error.provider_error_code} {error.provider_error_type} {error.body}".lower()
    return any(phrase in said for phrase in phrases)


def _wait(error: AgentRunError, otherwise: float) -> float:
    """Seconds until the provider wants to be asked again, as it said, or as we assume.

    One that says 0 has not said: it failed just now.
    """
    told = error.retry_after if isinstance(error, ModelAPIError) else None
    return told if told and told > 0 else otherwise


def _reason(error: AgentRunError) -> str:
    if not isinstance(error, ModelHTTPError):
        return ", ".join(dict.fromkeys(_kinds(error)))
    codes = (error.provider_error_type, error.provider_error_code)
    return ", ".join([f"HTTP {error.status_code}", *dict.fromkeys(code for code in codes if code)])


def _kinds(error: BaseException | None) -> Iterator[str]:
    """The classes of an error and its causes, which say what went wrong where no text may."""
    while error is not None:
        yield type(error).__name__
        error = error.__cause__
