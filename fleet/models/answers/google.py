"""Answers of Google's Gemini protocol, whose streams repeat it piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.models.answers.fields import (
    Characters,
    Json,
    Unreadable,
    counts,
    first,
    items,
    mapping,
    name,
)

REASONS = frozenset(
    {
        "STOP",
        "MAX_TOKENS",
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "OTHER",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MODEL_ARMOR",
        "CONTINUATION",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
    }
)
"""The finish reasons of text answers."""

ANOTHER_REASON = "FINISH_REASON_UNSPECIFIED"


def whole(body: Mapping[str, Any]) -> Json:
    """An answer. Raises `Unreadable`."""
    told = _answer(body, Characters(), last=True)
    if "candidates" not in told and "promptFeedback" not in told:
        raise Unreadable("the answer has no candidate")
    return told


def events_of(body: Mapping[str, Any]) -> list[Json]:
    """A complete answer as the one piece of a stream. Raises `Unreadable`. A complete answer has
    ended, even without a finish reason."""
    told = whole(body)
    for candidate in told.get("candidates", []):
        candidate.setdefault("finishReason", ANOTHER_REASON)
    return [told]


class AnswerPieces:
    """The pieces of one answer."""

    def __init__(self) -> None:
        self._characters = Characters()

    def piece(self, event: Mapping[str, Any]) -> list[Json]:
        """The piece's normalised form. Raises `Unreadable`."""
        return [_answer(event, self._characters)]

    def end(self) -> list[Json]:
        """Nothing: this protocol has no event for the end of a stream."""
        return []


def _answer(body: Mapping[str, Any], characters: Characters, *, last: bool = False) -> Json:
    told: Json = {}
    candidate = first(body.get("candidates"))
    if candidate is not None:
        told["candidates"] = [_candidate(candidate, characters, last)]
    blocked = name(mapping(body.get("promptFeedback")).get("blockReason"))
    if blocked:
        told["promptFeedback"] = {"blockReason": blocked}
    if usage := {k: v for k, v in counts(body.get("usageMetadata")).items() if isinstance(v, int)}:
        told["usageMetadata"] = usage
    if version := name(body.get("modelVersion")):
        told["modelVersion"] = version
    return told


def _candidate(candidate: Mapping[str, Any], characters: Characters, last: bool) -> Json:
    reason = name(candidate.get("finishReason"))
    parts = [mapping(each) for each in items(mapping(candidate.get("content")).get("parts"))]
    found = []
    for each in (part for part in parts if part.get("text") is not None):
        text = each["text"]
        if not isinstance(text, str):
            raise Unreadable(f"the text is a {type(text).__name__}")
        found.append({"text": characters.more(text), "thought": each.get("thought") is True})
    left = characters.more("", last=last or reason is not None)
    if left:
        found.append({"text": left, "thought": False})
    told: Json = {"index": 0, "content": {"role": "model", "parts": found}}
    if reason is not None:
        told["finishReason"] = reason if reason in REASONS else ANOTHER_REASON
    return told
