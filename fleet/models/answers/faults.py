"""Errors inside an answer with status 200, in all shapes that servers use.

    {"error": {"code": 429, "message": ...}}         OpenRouter and other gateways
    {"error": {"type": "rate_limit_error", ...}}     OpenAI, Anthropic, in streams too
    {"error": {"status": "RESOURCE_EXHAUSTED"}}      Google
    {"error": "...", "status": 429}                  proxies
    {"object": "error", "code": 40303, ...}          older vLLM
    {"detail": "..."}                                servers written with FastAPI
    {"code": 429, "msg": "..."}                      gateways
    {"base_resp": {"status_code": 1002, ...}}        MiniMax
    {"fault": {"faultstring": ...}}                  Apigee
    Too Many Requests                                proxies in front of a provider

An error without a known status or word is classified by its message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fleet.models.answers.fields import Json, first, items, mapping, said
from fleet.models.calls.provider_messages import MAX_CHARACTERS, status_said

STATUSES = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "bad_request_error": 400,
    "value_error": 422,
    "missing": 422,
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
    "not_found": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limited": 429,
    "throttling": 429,
    "throttling_exception": 429,
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
"""The status of each kind of error, at providers that give one."""

FAULT_OF_ITS_OWN = 500
"""The status of an error of unknown kind."""

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
"""Anthropic's words for statuses: its client recognises an error in a stream by them."""


class Fault(NamedTuple):
    """An error from an answer: the matching HTTP status, its message, its word, and all fields."""

    status: int
    message: str
    word: str
    told: Json

    def for_chat(self) -> Json:
        """The error in OpenAI's form. `code` is the status, because a stream has no other."""
        told = {**self.told, "message": self.message, "code": str(self.status)}
        return {"error": {**told, "type": self.word or None}}

    def for_anthropic(self) -> Json:
        """The error in Anthropic's form."""
        kind = KINDS.get(self.status, "api_error")
        error = {**self.told, "message": self.message, "type": kind, "code": self.word or None}
        return {"type": "error", "error": error}

    def for_google(self) -> Json:
        """The error in Google's form."""
        told = {**self.told, "message": self.message, "code": self.status}
        return {"error": {**told, "status": self.word.upper() or "UNKNOWN"}}


MESSAGES = (
    *("message", "detail", "msg", "title", "error_msg", "error_message", "errmsg"),
    *("status_msg", "faultstring", "error_description"),
)
"""The fields that may have the message of an error."""

WITHIN = ("error", "errors", "fault")
"""The fields that may have an error."""

TAGS = re.compile(r"<[^<>]*>")


def fault_in(body: object) -> Fault | None:
    """The error in the place of an answer, or None."""
    if isinstance(body, list):
        return fault_in(first(body)) if len(body) == 1 else None
    if isinstance(body, str):
        return fault_in_text(body)
    found = mapping(body)
    inner = first(found.get("choices")) or {}
    if _has_text(inner):
        return None
    answers = bool(inner) or "candidates" in found or found.get("type") == "message"
    is_one = tells_of_fault if answers else bool
    told = next((found[key] for key in WITHIN if is_one(found.get(key))), None)
    if told is None and tells_of_fault(inner.get("error")):
        told = inner["error"]
    told = told or _of_minimax(found)
    if told is None:
        if answers:
            return None
        is_error = found.get("object") == "error" or items(found.get("detail"))
        if not is_error and not _sentence(found):
            return None
        if "choices" in found and not any(_numbers(found)):
            return None
        told = found
    return _fault(told, found)


def fault_in_text(text: str) -> Fault | None:
    """The error in plain text or in a proxy's page, or None."""
    told = " ".join(TAGS.sub(" ", text[: 2 * MAX_CHARACTERS]).split())[:MAX_CHARACTERS]
    status = status_said(told)
    return None if status is None else Fault(status, told, "", {})


def tells_of_fault(error: object) -> bool:
    """Whether an error field has an error: some servers fill it in without one."""
    if isinstance(error, Mapping):
        has_code = any(error.get(key) for key in ("code", "status", "type"))
        has_code_of_none = "code" in error and not error["code"]
        others = any(value for key, value in error.items() if key not in MESSAGES)
        return has_code or others or (bool(_sentence(error)) and not has_code_of_none)
    return bool(error)


def _of_minimax(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    told = mapping(found.get("base_resp"))
    return told if told.get("status_code") else None


def _sentence(error: Mapping[str, Any]) -> str:
    told = (error.get(key) for key in MESSAGES)
    return next((each for each in told if isinstance(each, str) and each.strip()), "")


def _has_text(choice: Mapping[str, Any]) -> bool:
    message = mapping(choice.get("message") or choice.get("delta"))
    try:
        return bool(choice.get("text") or said(message.get("content")).text)
    except ValueError:
        return False


def _fault(told: object, outer: Mapping[str, Any]) -> Fault:
    error: Mapping[str, Any] = mapping(told) or mapping(first(told)) or _as_object(told)
    deeper = next((error[key] for key in WITHIN if mapping(error.get(key))), None)
    if deeper is not None and not any(_numbers(error)):
        # Some servers wrap another server's error.
        error, outer = deeper, {**outer, **error}
    details = first(error.get("detail")) or {}
    message = _sentence(error) or _sentence(outer) or _sentence(details)
    words = [word for each in (error, details, outer) for word in _words(each) if word]
    known = (STATUSES[key] for word in words if (key := _in_one_case(word)) in STATUSES)
    numbers = next(_numbers(error), None) or next(_numbers(outer), None)
    status = numbers or next(known, None) or status_said(message)
    return Fault(
        status or FAULT_OF_ITS_OWN,
        message,
        next(iter(words), ""),
        {key: value for key, value in error.items() if key not in ("message", "code", "type")},
    )


def _as_object(told: object) -> Json:
    """An error in plain text: a word or a sentence."""
    if not isinstance(told, str):
        return {}
    return {"message": told} if " " in told.strip() else {"message": told, "type": told.strip()}


def _in_one_case(word: str) -> str:
    """The form of a word in `STATUSES`, from a class name or a word with a suffix."""
    head = word.partition(".")[0]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", head).replace("-", "_").lower()


def _words(error: Mapping[str, Any]) -> Iterator[str]:
    """The names of an error, the most exact one first."""
    for key in ("code", "status", "type"):
        value = error.get(key)
        if isinstance(value, str) and not value.isdigit():
            yield value


def _numbers(error: Mapping[str, Any]) -> Iterator[int]:
    """The HTTP statuses among the numbers of an error."""
    for key in ("code", "status", "status_code", "statusCode", "http_status", "error_code"):
        value = error.get(key)
        number = int(value) if isinstance(value, str) and value.isdigit() else value
        if isinstance(number, int) and not isinstance(number, bool) and 400 <= number < 600:
            yield number
