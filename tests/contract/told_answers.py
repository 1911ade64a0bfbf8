"""Fake answers of three protocols: what each documents for the same answer, whole and as a stream,
and the same with fields out of shape that nobody needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fleet.settings.providers import ProviderKind

Json = dict[str, Any]

USAGE = (100, 20)
"""Tokens in and out, unless an answer tells something else."""


@dataclass(frozen=True, slots=True)
class Told:
    """One answer: its pieces, why it ended (of `ENDS`, None where that is left out), the tokens in
    and out (None where they are left out), and whether what nobody needs is out of shape."""

    pieces: Sequence[str] = ("good", " day")
    ends: str | None = "stop"
    usage: tuple[int, int] | None = USAGE
    odd: bool = False

    @property
    def text(self) -> str:
        """What the pieces come to."""
        return "".join(self.pieces)


class Fault(NamedTuple):
    """An error as each protocol tells it: by a status, a word of OpenAI's, one of Anthropic's, and
    one of Google's."""

    status: int
    word: str
    anthropic: str
    google: str

    def body(self, kind: ProviderKind) -> Json:
        """The error in a protocol's way."""
        if kind == "anthropic":
            return {"type": "error", "error": {"type": self.anthropic, "message": "no"}}
        told: Json = {"code": self.status, "message": "no"}
        return {"error": {**told, **({"status": self.google} if kind == "google" else {})}}

    def event(self, kind: ProviderKind) -> bytes:
        """The same in the midst of a stream."""
        return event(self.body(kind), "error" if kind == "anthropic" else "")


class Form(NamedTuple):
    """How a protocol writes answers. `path` is where its server is under an address."""

    model: str
    path: str
    ends: Mapping[str, str]
    whole: Callable[[Told], Json]
    frames: Callable[[Told], list[bytes]]


def event(told: Any, name: str = "") -> bytes:
    """A server-sent event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {told if isinstance(told, str) else json.dumps(told)}\n\n".encode()


# OpenAI

CHAT_ENDS = {
    **dict.fromkeys(("stop", "length", "content_filter", "tool_calls", "error"), ""),
    **{"new": "flux", "empty": ""},
}
CHAT_ODD = {
    **{"created": 1.5, "id": None, "object": 7, "model": None, "system_fingerprint": {}},
    **{"service_tier": 7, "provider": ["x"], "metadata": "none"},
}


def _chat_frame(told: Told) -> Json:
    named = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return CHAT_ODD if told.odd else named


def _chat_end(told: Told) -> Json:
    if told.ends is None:
        return {}
    return {"finish_reason": CHAT_ENDS[told.ends] or ("" if told.ends == "empty" else told.ends)}


def _chat_usage(told: Told) -> Json:
    if told.usage is None:
        return {"usage": {}} if told.odd else {}
    read, wrote = told.usage
    counts = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
    return {"usage": {**counts, "queue_time": 0.5, "cost": None} if told.odd else counts}


def chat_whole(told: Told) -> Json:
    message: Json = {"role": "assistant", "content": told.text}
    odd: Json = {}
    if told.odd:
        message |= {"role": "robot", "annotations": 5, "tool_calls": None, "audio": "none"}
        message["content"] = [{"type": "text", "text": piece} for piece in told.pieces]
        odd = {"index": None, "logprobs": "none", "matched_stop": 5}
    choice = {"index": 0, "message": message, **_chat_end(told), **odd}
    return {**_chat_frame(told), "choices": [choice], **_chat_usage(told)}


def chat_frames(told: Told) -> list[bytes]:
    frame = {**_chat_frame(told), "object": "chat.completion.chunk"}
    odd: Json = {"index": None, "logprobs": "none"} if told.odd else {}
    role: Json = {"role": "robot", "tool_calls": None} if told.odd else {"role": "assistant"}
    deltas: list[Json] = [{**role, "content": ""}, *({"content": each} for each in told.pieces)]
    choices = [{"index": 0, "delta": each, "finish_reason": None, **odd} for each in deltas]
    choices.append({"index": 0, "delta": {}, **_chat_end(told), **odd})
    chunks = [{**frame, "choices": [each]} for each in choices]
    usage = [{**frame, "choices": [], **_chat_usage(told)}] if _chat_usage(told) else []
    return [event(each) for each in (*chunks, *usage, "[DONE]")]


# Anthropic

ANTHROPIC_ENDS = {
    **{"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    **{"tool_calls": "tool_use", "error": "error", "new": "flux", "empty": ""},
}


def _message(told: Told, wrote: int | None = None) -> Json:
    usage: Json = {}
    if told.usage is not None:
        usage = {"input_tokens": told.usage[0]}
        usage["output_tokens"] = told.usage[1] if wrote is None else wrote
    if told.odd:
        usage |= {"service_tier": 7, "server_tool_use": "none", "cache_creation": None}
        named: Json = {"id": None, "role": "robot", "model": 5, "container": "x"}
        named["stop_sequence"] = 5
    else:
        named = {"id": "x", "role": "assistant", "model": "m", "stop_sequence": None}
    return {"type": "message", **named, "usage": usage}


def _stop(told: Told) -> Json:
    return {} if told.ends is None else {"stop_reason": ANTHROPIC_ENDS[told.ends]}


def anthropic_whole(told: Told) -> Json:
    block: Json = {"type": "text", "text": told.text}
    odd = {"citations": 5} if told.odd else {}
    more = [{"type": "hologram", "data": 5}] if told.odd else []
    return {**_message(told), "content": [*more, {**block, **odd}], **_stop(told)}


def anthropic_frames(told: Told) -> list[bytes]:
    start: Json = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
    piece: Json = {"type": "content_block_delta"}
    events: list[Json] = [
        {"type": "message_start", "message": {**_message(told, 1), "content": []}},
        *([{"type": "hologram", "data": 5}] if told.odd else []),
        {**start, "index": 0},
        {"type": "ping"},
        *(
            {**piece, "index": 0, "delta": {"type": "text_delta", "text": each}}
            for each in told.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {**_stop(told), **({"container": 5} if told.odd else {})},
            "usage": {"output_tokens": told.usage[1]} if told.usage else {},
        },
        {"type": "message_stop"},
    ]
    return [event(each, "" if told.odd else str(each["type"])) for each in events]


# Google

GOOGLE_ENDS = {
    **{"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
    **{"tool_calls": "STOP", "error": "MALFORMED_FUNCTION_CALL", "new": "FLUX", "empty": ""},
}
GOOGLE_ODD = {
    **{"createTime": "yesterday", "responseId": 5, "modelStatus": "new", "promptFeedback": {}},
    "modelVersion": None,
}


def _google(told: Told, pieces: Sequence[str], *, last: bool = True) -> Json:
    odd = told.odd
    parts = [{"text": each, **({"flux": 5, "thought": None} if odd else {})} for each in pieces]
    candidate: Json = {"content": {"role": "robot" if odd else "model", "parts": parts}}
    if last and told.ends is not None:
        candidate["finishReason"] = GOOGLE_ENDS[told.ends]
    if odd:
        candidate |= {"safetyRatings": "none", "avgLogprobs": "x", "groundingMetadata": 5}
    usage: Json = {}
    if told.usage is not None:
        read, wrote = told.usage
        usage = {"promptTokenCount": read, "candidatesTokenCount": wrote}
        usage["totalTokenCount"] = read + wrote
    if odd:
        usage |= {"promptTokensDetails": [{"modality": "SMELL", "tokenCount": "x"}]}
        usage |= {"trafficType": "NEW"}
    more = GOOGLE_ODD if odd else {"modelVersion": "m"}
    return {"candidates": [candidate], "usageMetadata": usage, **more}


def google_whole(told: Told) -> Json:
    return _google(told, told.pieces)


def google_frames(told: Told) -> list[bytes]:
    *first, last = [[each] for each in told.pieces] or [[""]]
    pieces = [_google(told, each, last=False) for each in first]
    return [event(each) for each in (*pieces, _google(told, last))]


FORMS: Mapping[ProviderKind, Form] = {
    "openai": Form("some-model", "/v1", CHAT_ENDS, chat_whole, chat_frames),
    "anthropic": Form(
        "claude-sonnet-4-6", "", ANTHROPIC_ENDS, anthropic_whole, anthropic_frames
    ),
    "google": Form("gemini-2.5-flash", "", GOOGLE_ENDS, google_whole, google_frames),
}
