"""Usage as servers tell it, whole and streamed, and the fields that they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from recorder import Stream, recorder
from streamed_answers import EVENTS, content_type

from fleet.agent import ModelReply
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.request_fields import asks_for_usage, keeps_limits, limit_field
from fleet.models.rules.choice import Model, Price
from fleet.settings.providers import ProviderKind

PRICE = Price.per_thousand(0.003, 0.015)
NAMES: Mapping[ProviderKind, str] = {
    "openai": "some-model",
    "anthropic": "claude-sonnet-4-6",
    "google": "gemini-2.5-flash",
}
BASES: Mapping[ProviderKind, str] = {"openai": "/v1", "anthropic": "", "google": ""}


def answer(kind: ProviderKind, text: str, usage: Any) -> dict[str, Any]:
    """An answer of a protocol with this usage."""
    if kind == "anthropic":
        return {
            **{"id": "m", "type": "message", "role": "assistant", "model": "m"},
            "content": [{"type": "text", "text": text}],
            **{"stop_reason": "end_turn", "stop_sequence": None, "usage": usage},
        }
    if kind == "google":
        content = {"role": "model", "parts": [{"text": text}]}
        candidates = [{"content": content, "finishReason": "STOP"}]
        return {"candidates": candidates, "usageMetadata": usage, "modelVersion": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    named = {"id": "one", "object": "chat.completion", "created": 1, "model": "m"}
    return {**named, "choices": [{**choice, "finish_reason": "stop"}], "usage": usage}


def ask(
    kind: ProviderKind, usage: Any, streams: bool, text: str = "good day", **options: Any
) -> tuple[ModelReply, Mapping[str, Any]]:
    """The reply, and the request that was sent."""
    told = answer(kind, text, usage)
    served = Stream([*EVENTS[kind](told)], content_type(kind)) if streams else told
    with recorder(served) as found:
        most = options.pop("max_tokens", 100)
        model = Model(options.pop("name", NAMES[kind]), "p", PRICE, 0.9, 0.9)
        endpoint = Endpoint(kind, "k", found.url + BASES[kind], streams=streams, **options)
        reply = asyncio.run(ModelCaller(model, endpoint, 20).ask("hello", "", most, 0.0))
    return reply, found.seen[0].body


def chat(prompt: Any, completion: Any, total: Any, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total, **more}


def google(prompt: int, candidates: int, total: int, **more: int) -> dict[str, int]:
    told = {"promptTokenCount": prompt, "candidatesTokenCount": candidates}
    return {**told, "totalTokenCount": total, **more}


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streams(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize(
    ("kind", "usage", "used"),
    [
        ("openai", chat(20, 30, 1000), (20, 980)),
        (
            "openai",
            chat(10, 500, 910, completion_tokens_details={"reasoning_tokens": 400}),
            (10, 900),
        ),
        ("google", google(20, 30, 1000), (20, 980)),
        ("google", google(20, 30, 60, thoughtsTokenCount=10), (20, 40)),
        (
            "anthropic",
            {
                "input_tokens": 60,
                "cache_read_input_tokens": 40,
                "output_tokens": 20,
                "output_tokens_details": {"thinking_tokens": 90},
            },
            (100, 110),
        ),
    ],
)
def test_what_was_written_unseen_is_charged(
    kind: ProviderKind, usage: Any, used: tuple[int, int], streams: bool
) -> None:
    reply, _ = ask(kind, usage, streams)
    assert (reply.input_tokens, reply.output_tokens) == used
    assert not reply.usage_missing
    assert not reply.usage_contradictory
    assert reply.cost_nanodollars >= PRICE.most(used[0], used[1]) - PRICE.most(used[0], 0)


@pytest.mark.parametrize(
    ("kind", "usage", "used"),
    [
        ("openai", chat(10, 500, 100), (10, 500)),
        ("openai", chat(20, "x", 50), (20, 30)),
        ("openai", chat(20, 30, -50), (20, 30)),
        ("google", google(10, 500, 100), (10, 500)),
    ],
)
def test_counts_that_fit_no_reading_are_told_apart(
    kind: ProviderKind, usage: Any, used: tuple[int, int], streams: bool
) -> None:
    reply, _ = ask(kind, usage, streams)
    assert reply.usage_contradictory
    assert (reply.text, reply.usage_missing) == ("good day", False)
    assert (reply.input_tokens, reply.output_tokens) == used


@pytest.mark.parametrize(
    ("kind", "usage"),
    [
        ("openai", chat(20, 0, 20)),
        ("openai", chat(20, -30, None)),
        ("openai", chat(20, 10**12, None)),
        ("openai", {}),
        ("openai", [1]),
        ("anthropic", {"input_tokens": 20, "output_tokens": 0}),
        ("google", {"promptTokenCount": 20}),
    ],
)
def test_text_without_output_tokens_is_missing_usage(
    kind: ProviderKind, usage: Any, streams: bool
) -> None:
    reply, _ = ask(kind, usage, streams, text="word " * 800, max_tokens=1000)
    assert reply.usage_missing
    assert reply.text == "word " * 800


# What is sent


@pytest.mark.parametrize(
    ("name", "base_url", "field"),
    [
        ("gpt-4o", "https://api.openai.com/v1", "max_completion_tokens"),
        ("o3", "https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("gpt-5-mini", None, "max_completion_tokens"),
        ("gpt-4o", "https://acme.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("my-deployment", "https://acme.services.ai.azure.com/models", "max_completion_tokens"),
        ("mistral-large", "https://acme.services.ai.azure.com/models", "max_tokens"),
        ("gpt-4.1", "https://api.githubcopilot.com", "max_completion_tokens"),
        ("gpt-5", "https://gateway.example/v1", "max_completion_tokens"),
        ("openai/gpt-5", "https://openrouter.ai/api/v1", "max_tokens"),
        ("Phi-4", "https://acme.services.ai.azure.com/models", "max_tokens"),
        ("DeepSeek-R1", "https://acme.services.ai.azure.com/models", "max_tokens"),
        ("openai/o4-mini", "https://models.github.ai/inference", "max_completion_tokens"),
        ("meta/llama-3", "https://models.github.ai/inference", "max_tokens"),
        ("deepseek-chat", "https://api.deepseek.com", "max_tokens"),
        ("mistral-small-latest", "https://api.mistral.ai/v1", "max_tokens"),
        ("gpt-oss-20b", "http://127.0.0.1:8080/v1", "max_tokens"),
        ("llama3", "http://ollama.internal:11434/v1", "max_tokens"),
        ("gpt-4o", "https://api.openai.com.evil.example/v1", "max_tokens"),
    ],
)
def test_each_server_is_sent_the_limit_that_it_knows(
    name: str, base_url: str | None, field: str
) -> None:
    assert limit_field(name, base_url, None) == field


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"max_tokens": 100}),
        ("max_tokens", {"max_tokens": 100}),
        ("max_completion_tokens", {"max_completion_tokens": 100}),
        ("none", {}),
    ],
)
def test_one_field_limits_the_answer_and_it_can_be_named(
    given: Any, expected: dict[str, int], streams: bool
) -> None:
    _, sent = ask("openai", chat(9, 5, 14), streams, limit_field=given)
    limits = {name: sent[name] for name in sent if name.startswith("max")}
    assert limits == expected


def test_temperature_and_the_request_for_usage_can_be_dropped(streams: bool) -> None:
    _, sent = ask("openai", chat(9, 5, 14), streams)
    assert sent["temperature"] == 0.0
    assert sent.get("stream_options") == ({"include_usage": True} if streams else None)
    _, sent = ask("openai", chat(9, 5, 14), streams, temperature=False, stream_usage=False)
    assert not {"temperature", "stream_options"} & {*sent}


@pytest.mark.filterwarnings("ignore:Sampling parameters")
@pytest.mark.parametrize("name", ["o3", "openai/gpt-5-mini", "litellm/openai/o4-mini"])
def test_a_model_that_reasons_is_sent_no_temperature_by_whatever_name(name: str) -> None:
    _, sent = ask("openai", chat(9, 5, 14), False, name=name)
    assert "temperature" not in sent


@pytest.mark.parametrize(
    ("kind", "usage", "path"),
    [
        ("anthropic", {"input_tokens": 9, "output_tokens": 5}, ("max_tokens",)),
        ("google", google(9, 5, 14), ("generationConfig", "maxOutputTokens")),
    ],
)
def test_other_protocols_have_a_limit_of_their_own(
    kind: ProviderKind, usage: Any, path: tuple[str, ...], streams: bool
) -> None:
    _, found = ask(kind, usage, streams)
    value: Any = found
    for name in path:
        value = value[name]
    assert value == 100


def test_who_documents_the_limit_is_known_to_keep_it() -> None:
    assert keeps_limits("anthropic", None, None)
    assert keeps_limits("openai", "https://api.openai.com/v1", None)
    assert not keeps_limits("openai", "https://api.openai.com/v1", "none")
    assert not keeps_limits("openai", "http://127.0.0.1:8080/v1", None)
    assert not keeps_limits("anthropic", "http://127.0.0.1:8080", None)
    assert not asks_for_usage("https://api.mistral.ai/v1", None)
    assert asks_for_usage("https://api.mistral.ai/v1", True)
