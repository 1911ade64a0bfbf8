"""Translates the error of a model call into one of Fleet's, which says what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    UnexpectedModelBehavior,
)

from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    ModelNotServed,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from fleet.models.answers.fields import Unreadable
from fleet.models.calls.provider_messages import (
    OF_RATES,
    OVERLOADED,
    REFUSED,
    TOO_LONG,
    FaultKind,
    lasting_fault,
    no_credit,
    says,
    told_in,
)
from fleet.models.calls.retry_after import seconds_to_wait
from fleet.outside import code_word

RETRY_SECONDS = 1.0
"""The wait for a provider that gives no time."""

RATE_LIMIT_SECONDS = 10.0
"""The wait after a 429 without a time: all providers count limits by the minute."""

QUOTA_SECONDS = 3600.0
"""The wait after a used-up quota without a time: only a person or a new day fixes it."""

NOT_SENT = frozenset({"ConnectError", "ConnectTimeout"})
"""Causes of a provider that was never reached. After any other cause it may serve the request."""

TRY_LATER = frozenset({408, 409, 424, 425, 498, 499})
"""Like the 5xx: nothing is wrong with the request. 498 is Groq's status for a lack of capacity."""

CONTENT_TOO_LARGE = 413

REASONS: Mapping[FaultKind, str] = {
    "credit": "a lack of credit or quota",
    "region": "a region that is not served",
    "key": "a refused key",
    "model": "a model that is not served",
    "parameter": "a parameter that it does not take",
}
"""The reasons for a long cool-down of a model, as lists show them."""


def translated(model: str, error: AgentRunError, secrets: Iterable[str]) -> FleetError:
    """Fleet's error for one of Pydantic AI's.

    The message has the status and the provider's codes, never the body of its answer, which may
    repeat the prompt or the key. A code that is none, or has a part of one of the `secrets` that
    the request carried, is left out.
    """
    reason = _reason(error, tuple(secrets))
    if _is_too_long(error):
        return ContextWindowExceeded(
            f"the prompt is too long for model {model} ({reason}); take one with a larger window, "
            "or send less"
        )
    if isinstance(error, ModelQuotaExceededError) or no_credit(_told(error)):
        return _standing(model, "credit", error, reason)
    if isinstance(error, ModelRateLimitError):
        return _limited(model, error, reason)
    if isinstance(error, ModelHTTPError):
        return _rejection(model, error, reason)
    if isinstance(error, UnexpectedModelBehavior) or Unreadable.__name__ in _kinds(error):
        return Unavailable(
            f"model {model} gave no readable answer ({reason}); if its server does not stream, set "
            "stream = false for the provider",
            may_be_served=True,
        )
    return Unavailable(
        f"model {model} cannot be had now ({reason})",
        _wait(error, RETRY_SECONDS),
        may_be_served=NOT_SENT.isdisjoint(_kinds(error)),
    )


def _rejection(model: str, error: ModelHTTPError, reason: str) -> FleetError:
    """The error for an HTTP status that is not about the prompt's length or a rate limit."""
    status = error.status_code
    # First, because some codes for a later retry come with another status.
    if status >= 500 or status in TRY_LATER:
        wait = _wait(error, RETRY_SECONDS)
        return Unavailable(f"model {model} cannot be had now ({reason})", wait)
    if says(_told(error), REFUSED) or _flagged(error):
        return ModelRefused(f"the provider of {model} would not take the prompt ({reason})")
    is_page = not isinstance(error.body, Mapping)
    kind = lasting_fault(status, _told(error), is_page=is_page)
    if kind is None and says(_told(error), OF_RATES):
        return _limited(model, error, reason)
    if kind is None and says(_told(error), OVERLOADED):
        wait = _wait(error, RETRY_SECONDS)
        return Unavailable(f"model {model} cannot be had now ({reason})", wait)
    if kind is None and status == 404:
        return ModelNotServed(
            f"nothing is served for {model} at its address ({reason}); check the provider's "
            "base_url"
        )
    if kind is None:
        return NeverRetry(f"the provider of {model} refused the request ({reason})")
    return _standing(model, kind, error, reason)


def _limited(model: str, error: AgentRunError, reason: str) -> RateLimited:
    """The error for a rate limit."""
    asked = _wait(error, 0.0)
    limited = RateLimited(
        f"the provider of {model} accepts no more calls for now ({reason})",
        asked or RATE_LIMIT_SECONDS,
    )
    limited.asked_seconds = asked
    return limited


def _standing(model: str, kind: FaultKind, error: AgentRunError, reason: str) -> FleetError:
    """The error for a fault that lasts until a person fixes it."""
    made: FleetError
    if kind == "credit":
        made = QuotaExhausted(
            f"the account of {model}'s key has no credit or quota left ({reason}); top it up, "
            "raise its limit, or set another key",
            _wait(error, QUOTA_SECONDS),
        )
        made.whole_key = "PerModel" not in str(getattr(error, "body", ""))
    elif kind == "region":
        made = NotAllowed(
            f"the provider of {model} does not serve this region ({reason}); ask another provider, "
            "or from another region"
        )
    elif kind == "key":
        made = NotAllowed(f"the provider of {model} refused the key ({reason}); check it")
    elif kind == "model":
        made = ModelNotServed(
            f"the provider of {model} has no such model, or not for this key ({reason}); check the "
            "model's name in the catalogue, and the provider's base_url"
        )
    else:
        made = NeverRetry(
            f"the provider of {model} does not take a parameter of the request ({reason})"
        )
    made.reason = f"{REASONS[kind]} ({reason})"
    return made


def _flagged(error: ModelHTTPError) -> bool:
    """Whether a 403 is about the prompt, as at OpenRouter after a filter has flagged it."""
    rejected = isinstance(error, ModelRequestRejectedError)
    return error.status_code == 403 and rejected and not isinstance(error, ModelAuthenticationError)


def _is_too_long(error: AgentRunError) -> bool:
    if isinstance(error, ModelContextWindowExceededError):
        return True
    if not isinstance(error, ModelHTTPError):
        return False
    status = error.status_code
    return status == CONTENT_TOO_LARGE or (400 <= status < 500 and says(_told(error), TOO_LONG))


def _told(error: AgentRunError) -> str:
    """The provider's codes and messages, in lower case."""
    if not isinstance(error, ModelHTTPError):
        return ""
    codes = (error.provider_error_code, error.provider_error_type)
    return " ".join([*(code for code in codes if code), *told_in(error.body)]).lower()


def _wait(error: AgentRunError, otherwise: float) -> float:
    """The seconds to wait, from the provider or by default.

    0 counts as no time: the provider failed just now.
    """
    told = None
    if isinstance(error, ModelHTTPError) and error.headers:
        limited = isinstance(error, ModelRateLimitError)
        told = seconds_to_wait(error.headers, datetime.now(UTC), limited=limited)
    if told is None and isinstance(error, ModelAPIError):
        # Google has the time in the body.
        told = error.retry_after
    return told if told and told > 0 else otherwise


def _reason(error: AgentRunError, secrets: Iterable[str]) -> str:
    if not isinstance(error, ModelHTTPError):
        return ", ".join(dict.fromkeys(_kinds(error)))
    codes = (error.provider_error_type, error.provider_error_code)
    shown = (found for code in codes if code and (found := code_word(code, secrets)))
    return ", ".join([f"HTTP {error.status_code}", *dict.fromkeys(shown)])


def _kinds(error: BaseException | None) -> Iterator[str]:
    """The classes of an error and its causes, in place of messages, which must not be shown."""
    while error is not None:
        yield type(error).__name__
        error = error.__cause__
