"""The answers of a fake provider as its protocol streams them: the frames that a whole one is sent
in."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from zlib import crc32

from fleet.settings.providers import ProviderKind

Answer = Mapping[str, Any]


def _event(told: Any, name: str = "") -> bytes:
    """A server-sent event."""
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {told if isinstance(told, str) else json.dumps(told)}\n\n".encode()


def _halves(text: str) -> list[str]:
    """The text in two pieces; one without text has none."""
    half = len(text) // 2
    return [part for part in (text[:half], text[half:]) if part]


def _chat_chunks(answer: Answer) -> Iterator[dict[str, Any]]:
    (choice,) = answer["choices"]
    named = {name: answer[name] for name in ("id", "created", "model")}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": part} for part in _halves(choice["message"]["content"] or "")]
    told = [{"delta": each, "finish_reason": None} for each in deltas]
    told.append({"delta": {"content": ""}, "finish_reason": choice["finish_reason"]})
    for each in told:
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, **each}]}
        yield {**named, **chunk}


def _openai(answer: Answer) -> Iterator[bytes]:
    """What it took comes last, in a chunk without choices."""
    *chunks, last = _chat_chunks(answer)
    usage = [{**last, "choices": [], "usage": answer["usage"]}] if "usage" in answer else []
    yield from map(_event, (*chunks, last, *usage, "[DONE]"))


def told_as_it_grows(answer: Answer) -> Iterator[bytes]:
    """OpenAI's protocol as some speak it: each chunk has what the answer took so far."""
    for written, chunk in enumerate(_chat_chunks(answer)):
        usage = {**answer["usage"], "completion_tokens": 5 * (written + 1)}
        yield _event({**chunk, "usage": usage})
    yield _event("[DONE]")


def _mistral(answer: Answer) -> Iterator[bytes]:
    """What it took comes with the reason why it ended."""
    *chunks, last = _chat_chunks(answer)
    usage = {"usage": answer["usage"]} if "usage" in answer else {}
    yield from map(_event, (*chunks, {**last, **usage}, "[DONE]"))


def _groq(answer: Answer) -> Iterator[bytes]:
    """What it took is in a field of Groq's own."""
    *chunks, last = _chat_chunks(answer)
    usage = {"x_groq": {"id": "r", "usage": answer["usage"]}} if "usage" in answer else {}
    yield from map(_event, (*chunks, {**last, **usage}, "[DONE]"))


def _anthropic(answer: Answer) -> Iterator[bytes]:
    """What it read is told first, what it wrote last."""
    usage = answer.get("usage") or {}
    read = {**usage, "output_tokens": 1} if usage else {}
    message = {**answer, "content": [], "stop_reason": None, "usage": read}
    (block,) = answer["content"]
    text = {"type": "content_block_delta", "index": 0}
    events = [
        {"type": "message_start", "message": message},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {"type": "ping"},
        *(
            {**text, "delta": {"type": "text_delta", "text": part}}
            for part in _halves(block["text"])
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": answer["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": usage.get("output_tokens", 0)} if usage else {},
        },
        {"type": "message_stop"},
    ]
    for each in events:
        yield _event(each, str(each["type"]))


def _google(answer: Answer) -> Iterator[bytes]:
    """What it took so far comes with every piece."""
    (candidate,) = answer["candidates"]
    (part,) = candidate["content"]["parts"]
    rest = {name: value for name, value in answer.items() if name != "candidates"}
    *first, last = _halves(part["text"])
    for text in first:
        content = {"role": "model", "parts": [{"text": text}]}
        yield _event({**rest, "candidates": [{"content": content}]})
    content = {"role": "model", "parts": [{"text": last}]}
    yield _event({**rest, "candidates": [{**candidate, "content": content}]})


def _bedrock(answer: Answer) -> Iterator[bytes]:
    """Binary frames; what it took comes last."""
    (part,) = answer["output"]["message"]["content"]
    yield _frame("messageStart", {"role": "assistant"})
    for text in _halves(part["text"]):
        yield _frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})
    yield _frame("contentBlockStop", {"contentBlockIndex": 0})
    yield _frame("messageStop", {"stopReason": answer["stopReason"]})
    told = {name: answer[name] for name in ("usage", "metrics") if name in answer}
    yield _frame("metadata", told)


def _frame(name: str, payload: Mapping[str, Any]) -> bytes:
    """A message of AWS's event stream: lengths, headers, payload, each with its CRC."""
    told = {":message-type": "event", ":event-type": name, ":content-type": "application/json"}
    headers = b"".join(_header(*each) for each in told.items())
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + body
    return message + struct.pack(">I", crc32(message))


def _header(name: str, value: str) -> bytes:
    text = 7
    named = struct.pack(">B", len(name)) + name.encode()
    return named + struct.pack(">BH", text, len(value)) + value.encode()


EVENTS: Mapping[ProviderKind, Callable[[Answer], Iterator[bytes]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google": _google,
    "bedrock": _bedrock,
    "mistral": _mistral,
    "groq": _groq,
}


def content_type(kind: ProviderKind) -> str:
    """What a stream of a protocol says that it is."""
    return "application/vnd.amazon.eventstream" if kind == "bedrock" else "text/event-stream"
