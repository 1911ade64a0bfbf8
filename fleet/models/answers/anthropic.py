"""Answers of Anthropic's messages protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.models.answers.fields import (
    NO_REASON,
    Characters,
    Json,
    Unreadable,
    counts,
    mapping,
    name,
)

TEXTS = {
    "text": "text",
    "thinking": "thinking",
    "redacted_thinking": "data",
    "tool_use": "name",
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
}
"""The kinds of blocks and of their pieces, each with the field for its text."""

NOTHING_TOLD: Json = {"input_tokens": 0, "output_tokens": 0}


def whole(body: Mapping[str, Any]) -> Json:
    """A message. Raises `Unreadable`."""
    content = body.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if blocks is None and name(body.get("stop_reason")):
        blocks = []
    if not isinstance(blocks, list):
        raise Unreadable("the message has no content")
    found = [block for each in blocks if (block := _block(each, Characters(), last=True))]
    reason = "error" if body.get("error") else name(body.get("stop_reason"))
    return {**_frame(body), "content": found, "stop_reason": reason}


def events_of(body: Mapping[str, Any]) -> list[Json]:
    """A complete message as the events of a stream. Raises `Unreadable`."""
    told = whole(body)
    start = {**told, "content": [], "stop_reason": None}
    found: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(told["content"]):
        found.append({"type": "content_block_start", "index": index, "content_block": block})
        found.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": told["stop_reason"] or NO_REASON, "stop_sequence": None}
    found.append({"type": "message_delta", "delta": delta, "usage": told["usage"]})
    return [*found, {"type": "message_stop"}]


class MessagePieces:
    """The events of one message."""

    def __init__(self) -> None:
        self._characters: dict[int, Characters] = {}
        self._begun = False
        self._ended = False

    def piece(self, event: Mapping[str, Any]) -> list[Json]:
        """The event's normalised form; none for an unneeded kind. Raises `Unreadable`."""
        kind = event.get("type")
        if kind == "message_start":
            return self._starts(mapping(event.get("message")))
        found = self._piece(event, kind)
        # A client accepts no event before the start.
        return found if self._begun or not found else [*self._starts({}), *found]

    def _starts(self, message: Mapping[str, Any]) -> list[Json]:
        self._begun = True
        start = {**_frame(message), "content": [], "stop_reason": None}
        return [{"type": "message_start", "message": start}]

    def _piece(self, event: Mapping[str, Any], kind: object) -> list[Json]:
        if kind == "message_delta":
            return self._ends(event)
        if kind == "message_stop":
            return [*self.end(), {"type": kind}]
        place = event.get("index")
        index = place if isinstance(place, int) else 0
        if kind == "content_block_stop":
            return [*self._last(index), {"type": kind, "index": index}]
        field = {"content_block_start": "content_block", "content_block_delta": "delta"}.get(
            str(kind)
        )
        if field is None:
            return []
        characters = self._characters.setdefault(index, Characters())
        block = _block(event.get(field), characters)
        return [{"type": kind, "index": index, field: block}] if block else []

    def end(self) -> list[Json]:
        """The missing finish reason, if there was none. Raises `Unreadable`."""
        if not self._begun:
            raise Unreadable("the answer has no message")
        return [] if self._ended else self._ends({"delta": {"stop_reason": NO_REASON}})

    def _ends(self, event: Mapping[str, Any]) -> list[Json]:
        reason = name(mapping(event.get("delta")).get("stop_reason"))
        self._ended = self._ended or reason is not None
        delta = {"stop_reason": reason, "stop_sequence": None}
        usage = {"output_tokens": 0, **counts(event.get("usage"))}
        return [{"type": "message_delta", "delta": delta, "usage": usage}]

    def _last(self, index: int) -> list[Json]:
        """Half a character that arrived without its other half."""
        left = self._characters.pop(index, Characters()).more("", last=True)
        delta = {"type": "text_delta", "text": left}
        return [{"type": "content_block_delta", "index": index, "delta": delta}] if left else []


def _frame(message: Mapping[str, Any]) -> Json:
    return {
        "id": "-",
        "type": "message",
        "role": "assistant",
        "model": name(message.get("model")) or "-",
        "stop_sequence": None,
        "usage": {**NOTHING_TOLD, **counts(message.get("usage"))},
    }


def _block(block: object, characters: Characters, *, last: bool = False) -> Json | None:
    kind = mapping(block).get("type")
    field = TEXTS.get(str(kind))
    if field is None:
        return None
    text = mapping(block).get(field)
    if text is not None and not isinstance(text, str):
        raise Unreadable(f"the text is a {type(text).__name__}")
    if kind == "tool_use":
        call = mapping(mapping(block).get("input"))
        identity = name(mapping(block).get("id")) or "-"
        return {"type": kind, "id": identity, "name": text or "", "input": dict(call)}
    told: Json = {"type": kind, field: characters.more(text or "", last=last)}
    if kind == "thinking":
        told["signature"] = ""
    return told
