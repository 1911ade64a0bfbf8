"""Answers in OpenAI's chat completions protocol, which most servers speak, and in Mistral's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.models.answers.faults import tells_of_fault
from fleet.models.answers.fields import (
    NO_REASON,
    Characters,
    Json,
    Said,
    Unreadable,
    counts,
    first,
    items,
    mapping,
    name,
    said,
)

THOUGHTS = ("reasoning_content", "reasoning")
"""The fields for thoughts at servers that separate them."""

TOTALS = ("prompt_tokens", "completion_tokens", "total_tokens")


def whole(body: Mapping[str, Any]) -> Json:
    """A completion. Raises `Unreadable`."""
    choice = first(body.get("choices"))
    if choice is None:
        raise Unreadable("the answer has no choice")
    reason = name(choice.get("finish_reason"))
    message = _of(choice, "message")
    if message is None:
        if reason is None:
            raise Unreadable("the answer has no message")
        message = {}
    if tells_of_fault(body.get("error")) or tells_of_fault(choice.get("error")):
        reason = "error"
    told = {**_message(message), "role": "assistant"}
    told["content"] = Characters().more(told["content"], last=True)
    found = {"index": 0, "message": told, "finish_reason": reason}
    return {**_frame(body, "chat.completion"), "choices": [found]}


def events_of(body: Mapping[str, Any]) -> list[Json]:
    """A complete answer as the chunk of a stream. Raises `Unreadable`.

    A complete answer has ended, even without a finish reason.
    """
    told = whole(body)
    choice = told["choices"][0]
    piece = {"delta": choice["message"], "finish_reason": choice["finish_reason"] or NO_REASON}
    return ChatPieces().piece({**told, "choices": [piece]})


def _of(choice: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    """The message in a choice, in any field: servers mix the fields of messages, of their pieces,
    and of text completions."""
    for each in (field, "message", "delta"):
        if isinstance(found := choice.get(each), Mapping):
            return found
    return {"content": choice["text"]} if isinstance(choice.get("text"), str) else None


class ChatPieces:
    """The chunks of one completion."""

    def __init__(self) -> None:
        self._begun = False
        self._characters = Characters()
        self._ended = False

    def piece(self, event: Mapping[str, Any]) -> list[Json]:
        """The chunk's normalised form. Raises `Unreadable`."""
        choice = first(event.get("choices"))
        frame = _frame(event, "chat.completion.chunk")
        if choice is None:
            return [{**frame, "choices": []}]
        self._begun = True
        reason = name(choice.get("finish_reason"))
        delta = _message(_of(choice, "delta") or {})
        delta["content"] = self._characters.more(delta["content"], last=reason is not None)
        self._ended = self._ended or reason is not None
        return [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}]

    def end(self) -> list[Json]:
        """The missing finish reason, if there was none. Raises `Unreadable`."""
        if not self._begun:
            raise Unreadable("the answer has no choice")
        if self._ended:
            return []
        return self.piece({"choices": [{"delta": {}, "finish_reason": NO_REASON}]})


def _frame(body: Mapping[str, Any], kind: str) -> Json:
    frame: Json = {"id": "-", "object": kind, "created": 0, "model": name(body.get("model")) or "-"}
    # Moonshot's streams have the usage in the choice, and Groq's beside it.
    places = (body, first(body.get("choices")) or {}, mapping(body.get("x_groq")))
    told = (dict(mapping(place.get("usage"))) for place in places)
    # Malformed usage has information too: see `fleet.models.rules.usage`.
    return {**frame, "usage": next((each for each in told if each), None)}


def _message(message: Mapping[str, Any]) -> Json:
    content = said(message.get("content"))
    told: Json = {"content": content.text}
    thoughts = [message.get(field) for field in THOUGHTS]
    apart = next((each for each in thoughts if isinstance(each, str) and each), content.thoughts)
    if apart:
        told[THOUGHTS[0]] = apart
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        told["refusal"] = refusal
    calls = [_call(each, index) for index, each in enumerate(items(message.get("tool_calls")))]
    if any(calls):
        told["tool_calls"] = [call for call in calls if call]
    return told


def _call(call: object, index: int) -> Json | None:
    function = mapping(mapping(call).get("function"))
    arguments = function.get("arguments")
    if not function:
        return None
    place = mapping(call).get("index")
    return {
        "index": place if isinstance(place, int) else index,
        "id": name(mapping(call).get("id")) or f"call-{index}",
        "type": "function",
        "function": {
            "name": name(function.get("name")) or "",
            "arguments": arguments if isinstance(arguments, str) else "",
        },
    }


def in_mistrals_way(told: Json) -> Json:
    """The answer in Mistral's form, with thoughts and counts where its client expects them."""
    if told["usage"] or told["object"] == "chat.completion":
        told["usage"] = {**dict.fromkeys(TOTALS, 0), **counts(told["usage"])}
    for choice in told["choices"]:
        message = choice.get("message") or choice["delta"]
        parts = Said(message["content"], message.pop(THOUGHTS[0], ""))
        if parts.thoughts:
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": parts.thoughts}]}
            message["content"] = [thought, {"type": "text", "text": parts.text}]
    return told
