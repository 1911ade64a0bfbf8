"""The written text and the finish reason in a response of Pydantic AI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pydantic_ai import ModelResponse, TextPart, ThinkingPart
from pydantic_ai.messages import (
    BaseToolCallPart,
    ModelResponsePart,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
)

from fleet.agent import FinishReason
from fleet.models.rules.thoughts import split
from fleet.text import made_whole

Tags = tuple[str, str]

REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_call": "tool_calls",
    "error": "error",
}
"""Pydantic AI's finish reasons."""

ALIKE: dict[FinishReason, tuple[str, ...]] = {
    "stop": (
        *("end_turn", "eos", "eos_token", "stop_sequence", "stop_token", "stop_str"),
        *("complete", "completed", "finish", "finished", "done"),
    ),
    "length": (
        *("max_tokens", "max_output_tokens", "max_new_tokens", "max_length", "model_length"),
        *("token_limit", "length_limit", "length_capped", "context_length_exceeded"),
        "model_context_window_exceeded",
    ),
    "content_filter": (
        *("safety", "refusal", "sensitive", "recitation", "prohibited_content", "blocklist"),
        *("spii", "content_filtered", "guardrail_intervened", "content-filter"),
    ),
    "error": (
        *("error", "abort", "aborted", "failed", "failure", "network_error", "cancelled"),
        *("insufficient_system_resource", "timeout", "malformed_function_call"),
    ),
    "tool_calls": ("tool_use", "tool_call"),
}
OTHER_WORDS = {word: reason for reason, words in ALIKE.items() for word in words}
"""Finish reasons of servers that speak OpenAI's protocol with their own words."""


class WrittenAnswer(NamedTuple):
    """The answer's text, and the UTF-8 bytes of all shown output and of the thoughts in it."""

    text: str
    shown_bytes: int
    thought_bytes: int


def written(response: ModelResponse, tags: Tags | None) -> WrittenAnswer:
    """The written text. `tags` are those around thoughts in the text, None if there are none."""
    text = response.text or ""
    apart = _bytes(part.content for part in response.parts if isinstance(part, ThinkingPart))
    inline = ""
    if tags is not None:
        text, inline = split(text, tags)
    thoughts = apart + _bytes([inline])
    return WrittenAnswer(made_whole(text), _bytes(texts_of(response.parts)), thoughts)


def finish_reason(response: ModelResponse) -> FinishReason:
    """The finish reason as the provider reports it."""
    told = str((response.provider_details or {}).get("finish_reason") or "").lower()
    known = REASONS.get(response.finish_reason or "")
    if known == "content_filter" or (known and told):
        return known
    # Without a reported reason, Pydantic AI assumes that the answer is complete.
    return OTHER_WORDS.get(told, "unknown")


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def texts_of(parts: Iterable[ModelResponsePart]) -> Iterator[str]:
    """All texts that a model has written in these parts."""
    for part in parts:
        if isinstance(part, TextPart | ThinkingPart):
            yield part.content
        if isinstance(part, BaseToolCallPart):
            yield part.tool_name
            yield part.args_as_json_str()


def text_of(event: ModelResponseStreamEvent) -> str:
    """The text that a piece of a stream adds; tool calls only in part, because none are
    requested."""
    if isinstance(event, PartStartEvent):
        return "".join(texts_of([event.part]))
    if isinstance(event, PartDeltaEvent):
        return getattr(event.delta, "content_delta", None) or ""
    return ""
