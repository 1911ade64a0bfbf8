"""Errors that a server tells of inside an answer of status 200, in all the shapes that they have.

    {"error": {"code": 429, "message": ...}}         OpenRouter and other gateways
    {"error": {"type": "rate_limit_error", ...}}     OpenAI, Anthropic, in streams too
    {"error": {"status": "RESOURCE_EXHAUSTED"}}      Google
    {"error": "...", "status": 429}                  proxies
    {"object": "error", "code": 40303, ...}          older vLLM
    {"detail": "..."}                                servers written with FastAPI
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fleet.adapters.answers.fields import Json, first, mapping, said

STATUSES = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "unauthorized": 401,
    "billing_error": 402,
    "insufficient_balance": 402,
    "payment_required": 402,
    "permission_error": 403,
    "permission_denied": 403,
    "forbidden": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "not_found": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "internal": 500,
    "overloaded_error": 503,
    "overloaded": 503,
    "service_unavailable": 503,
    "unavailable": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
}
"""The status that providers give to an error of a kind, where they give one at all."""

FAULT_OF_ITS_OWN = 500
"""For an error that does not say of what kind it is."""

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Anthropic's words for statuses: its client knows an error in a stream by them."""


class Fault(NamedTuple):
    """An error as it was told: the HTTP status that fits it, its words, and all of it."""

    status: int
    message: str
    word: str
    told: Json

    def for_chat(self) -> Json:
        """As OpenAI writes it. `code` is the status, for in a stream there is no other."""
        told = {**self.told, "message": self.message, "code": str(self.status)}
        return {"error": {**told, "type": self.word or None}}

    def for_anthropic(self) -> Json:
        """As Anthropic writes it."""
        kind = KINDS.get(self.status, "api_error")
        error = {**self.told, "message": self.message, "type": kind, "code": self.word or None}
        return {"type": "error", "error": error}

    def for_google(self) -> Json:
        """As Google writes it."""
        told = {**self.told, "message": self.message, "code": self.status}
        return {"error": {**told, "status": self.word.upper() or "UNKNOWN"}}


def fault_in(body: object) -> Fault | None:
    """The error that is told of instead of an answer."""
    if isinstance(body, list):
        return fault_in(first(body)) if len(body) == 1 else None
    found = mapping(body)
    inner = first(found.get("choices")) or {}
    if _has_text(inner):
        return None
    told = found.get("error") or found.get("errors") or inner.get("error")
    if not told:
        if "choices" in found or "candidates" in found or found.get("type") == "message":
            return None
        if not isinstance(found.get("message") or found.get("detail"), str):
            return None
        told = found
    return _fault(told, found)


def _has_text(choice: Mapping[str, Any]) -> bool:
    message = mapping(choice.get("message") or choice.get("delta"))
    try:
        return bool(said(message.get("content")).text)
    except ValueError:
        return False


def _fault(told: object, outer: Mapping[str, Any]) -> Fault:
    error: Mapping[str, Any] = mapping(told) or mapping(first(told)) or {"message": str(told)}
    message = error.get("message") or error.get("detail") or ""
    words = [word for word in (*_words(error), *_words(outer)) if word]
    known = (STATUSES[word.lower()] for word in words if word.lower() in STATUSES)
    status = next(_numbers(error), None) or next(_numbers(outer), None) or next(known, None)
    return Fault(
        status or FAULT_OF_ITS_OWN,
        message if isinstance(message, str) else "",
        next(iter(words), ""),
        {key: value for key, value in error.items() if key not in ("message", "code", "type")},
    )


def _words(error: Mapping[str, Any]) -> Iterator[str]:
    """How an error is called; the most exact name first."""
    for key in ("code", "status", "type"):
        value = error.get(key)
        if isinstance(value, str) and not value.isdigit():
            yield value


def _numbers(error: Mapping[str, Any]) -> Iterator[int]:
    """The HTTP statuses among the numbers of an error."""
    for key in ("code", "status", "status_code", "statusCode", "error_code"):
        value = error.get(key)
        number = int(value) if isinstance(value, str) and value.isdigit() else value
        if isinstance(number, int) and not isinstance(number, bool) and 400 <= number < 600:
            yield number
