"""Each kind of provider is spoken to in its own documented protocol, with a stream and without."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pytest
from recorder import Recorder, Seen, Stream, recorder
from streamed_answers import EVENTS, content_type, told_as_it_grows

from fleet.agent import ModelReply
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    InvalidConfig,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.rules.choice import Model, Price, Tokens
from fleet.models.rules.cut_calls import CallProgress
from fleet.settings.providers import AWS_VARIABLES, ProviderKind

PRICE = Price.per_thousand(0.003, 0.015, 0.0003, 0.00375)
KINDS: tuple[ProviderKind, ...] = get_args(ProviderKind)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a provider documents: where to ask, for a stream too, how to show the key, and what an
    answer is.

    `answer` says "good day", and has 100 input tokens (40 of them cached) and 20 output tokens.
    """

    model: str
    base: str
    path: str
    key: tuple[str, str]
    answer: Mapping[str, Any]
    filtered: Mapping[str, Any]
    too_long: Mapping[str, Any]
    cached: int = 40
    stream_path: str = ""


def _chat(**usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "good day"}
    return {
        "id": "one",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, **usage},
    }


def _finished(answer: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**answer, "choices": [{**answer["choices"][0], "finish_reason": reason}]}


CHAT = _chat(prompt_tokens_details={"cached_tokens": 40})
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "good day"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 60, "cache_read_input_tokens": 40, "output_tokens": 20},
}
CANDIDATE = {"content": {"role": "model", "parts": [{"text": "good day"}]}, "finishReason": "STOP"}
GOOGLE = {
    "candidates": [CANDIDATE],
    "usageMetadata": {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 20,
        "totalTokenCount": 120,
    },
    "modelVersion": "gemini-2.5-flash",
}
BEDROCK = {
    "output": {"message": {"role": "assistant", "content": [{"text": "good day"}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 60,
        "cacheReadInputTokens": 40,
        "outputTokens": 20,
        "totalTokens": 120,
    },
    "metrics": {"latencyMs": 1},
}
CODED = {"error": {"message": "too long", "type": "invalid", "code": "context_length_exceeded"}}

PROTOCOLS: dict[ProviderKind, Protocol] = {
    "openai": Protocol(
        "gpt-4o",
        "/v1",
        "/v1/chat/completions",
        ("authorization", "Bearer the-key"),
        CHAT,
        _finished(CHAT, "content_filter"),
        CODED,
    ),
    "anthropic": Protocol(
        "claude-sonnet-4-6",
        "",
        "/v1/messages",
        ("authorization", "Bearer the-key"),
        ANTHROPIC,
        {**ANTHROPIC, "stop_reason": "refusal"},
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 200001 tokens > 200000 maximum",
            },
        },
    ),
    "google": Protocol(
        "gemini-2.5-flash",
        "",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        ("x-goog-api-key", "the-key"),
        GOOGLE,
        {**GOOGLE, "candidates": [{**CANDIDATE, "finishReason": "SAFETY"}]},
        {
            "error": {
                "code": 400,
                "message": "The input token count (1048577) exceeds the maximum number of tokens "
                "allowed (1048576).",
                "status": "INVALID_ARGUMENT",
            }
        },
        stream_path="/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    ),
    "bedrock": Protocol(
        "amazon.nova-lite-v1:0",
        "",
        "/model/amazon.nova-lite-v1%3A0/converse",
        ("authorization", "AWS4-HMAC-SHA256 Credential=the-key/"),
        BEDROCK,
        {**BEDROCK, "stopReason": "guardrail_intervened"},
        {"message": "Input is too long for requested model."},
        stream_path="/model/amazon.nova-lite-v1%3A0/converse-stream",
    ),
    "mistral": Protocol(
        "mistral-small-latest",
        "",
        "/v1/chat/completions",
        ("authorization", "Bearer the-key"),
        CHAT,
        {},
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum "
            "context length",
            "type": "invalid_request_prompt",
            "code": "3051",
        },
    ),
    "groq": Protocol(
        "llama-3.3-70b-versatile",
        "",
        "/openai/v1/chat/completions",
        ("authorization", "Bearer the-key"),
        CHAT,
        {},
        CODED,
    ),
}


def caller(kind: ProviderKind, url: str, streams: bool, key: str = "the-key") -> ModelCaller:
    protocol = PROTOCOLS[kind]
    model = Model(protocol.model, kind, PRICE, 0.9, 0.9)
    region = "eu-central-1" if kind == "bedrock" else None
    endpoint = Endpoint(kind, key, url + protocol.base, region, streams)
    return ModelCaller(model, endpoint, 20)


def ask(kind: ProviderKind, url: str, streams: bool) -> ModelReply:
    return asyncio.run(caller(kind, url, streams).ask("hello", "be brief", 64, 0.0))


def served(kind: ProviderKind, answer: Mapping[str, Any], streams: bool) -> Any:
    """An answer in the way in which it is asked for."""
    return Stream([*EVENTS[kind](answer)], content_type(kind)) if streams else answer


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streams(request: pytest.FixtureRequest) -> bool:
    """Whether answers are asked for piece by piece."""
    return bool(request.param)


@pytest.fixture(autouse=True)
def aws(clean_environment: pytest.MonkeyPatch) -> None:
    """Bedrock's client takes its key from the environment, as no other does."""
    for name in AWS_VARIABLES:
        clean_environment.delenv(name, raising=False)
    clean_environment.setenv("AWS_ACCESS_KEY_ID", "the-key")
    clean_environment.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")


Fails = Callable[..., tuple[FleetError, Recorder]]


@pytest.fixture
def error_of(streams: bool) -> Fails:
    """Gives the error of a call whose provider answers with a status."""

    def failed(
        kind: ProviderKind, status: int, body: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[FleetError, Recorder]:
        with recorder(body, status, headers) as found, pytest.raises(FleetError) as caught:
            ask(kind, found.url, streams)
        return caught.value, found

    return failed


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_goes_where_the_provider_wants_it_with_its_key(
    kind: ProviderKind, streams: bool
) -> None:
    protocol = PROTOCOLS[kind]
    with recorder(served(kind, protocol.answer, streams)) as found:
        ask(kind, found.url, streams)
    (seen,) = found.seen
    path = (streams and protocol.stream_path) or protocol.path
    assert seen.path.partition("?")[0] == path
    name, value = protocol.key
    assert seen.headers[name].startswith(value)
    assert _texts(seen) == {"hello", "be brief"}


def _texts(seen: Seen) -> set[str]:
    """Prompt and instructions, wherever a protocol has them."""

    def found(part: Any) -> set[str]:
        if isinstance(part, Mapping):
            return set().union(*map(found, part.values()))
        if isinstance(part, list):
            return set().union(*map(found, part))
        return {part} & {"hello", "be brief"} if isinstance(part, str) else set()

    return found(seen.body)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_read_with_its_tokens_and_charged(kind: ProviderKind, streams: bool) -> None:
    protocol = PROTOCOLS[kind]
    with recorder(served(kind, protocol.answer, streams)) as found:
        reply = ask(kind, found.url, streams)
    assert (reply.text, reply.model) == ("good day", protocol.model)
    assert (reply.input_tokens, reply.output_tokens) == (100, 20)
    assert reply.cached_input_tokens == protocol.cached
    assert reply.cost_nanodollars == PRICE.cost(Tokens(100, 20, protocol.cached))
    assert not reply.usage_missing


def test_what_a_stream_tells_as_it_grows_is_not_added_up() -> None:
    frames = [*told_as_it_grows(CHAT)]
    with recorder(Stream(frames, content_type("openai"))) as found:
        reply = ask("openai", found.url, True)
    assert (reply.input_tokens, reply.output_tokens, reply.cached_input_tokens) == (100, 20, 40)


WRITTEN: dict[ProviderKind, dict[str, Any]] = {
    "openai": _chat(prompt_tokens_details={"cached_tokens": 40, "cache_write_tokens": 30}),
    "anthropic": {
        **ANTHROPIC,
        "usage": {
            "input_tokens": 30,
            "cache_read_input_tokens": 40,
            "cache_creation_input_tokens": 30,
            "output_tokens": 20,
        },
    },
    "bedrock": {
        **BEDROCK,
        "usage": {
            "inputTokens": 30,
            "cacheReadInputTokens": 40,
            "cacheWriteInputTokens": 30,
            "outputTokens": 20,
            "totalTokens": 120,
        },
    },
}
"""Answers of the protocols that tell it: 30 of the input tokens were written to the cache."""


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_a_provider_writes_to_its_cache_is_told_and_charged(
    kind: ProviderKind, streams: bool
) -> None:
    with recorder(served(kind, WRITTEN[kind], streams)) as found:
        reply = ask(kind, found.url, streams)
    assert (reply.input_tokens, reply.output_tokens) == (100, 20)
    assert (reply.cached_input_tokens, reply.cache_write_tokens) == (40, 30)
    assert reply.cost_nanodollars == PRICE.cost(Tokens(100, 20, 40, 30))


def _without_usage(kind: ProviderKind) -> dict[str, Any]:
    answer = PROTOCOLS[kind].answer.items()
    return {name: part for name, part in answer if name not in ("usage", "usageMetadata")}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bedrock"])
def test_an_answer_without_usage_says_that_it_is_missing(kind: ProviderKind, streams: bool) -> None:
    with recorder(served(kind, _without_usage(kind), streams)) as found:
        reply = ask(kind, found.url, streams)
    assert (reply.text, reply.usage_missing) == ("good day", True)


def test_bedrocks_client_wants_the_usage_in_a_whole_answer_and_not_in_a_stream() -> None:
    with recorder(served("bedrock", _without_usage("bedrock"), True)) as found:
        assert ask("bedrock", found.url, True).usage_missing
    with recorder(_without_usage("bedrock")) as found, pytest.raises(Unavailable, match="cannot"):
        ask("bedrock", found.url, False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_limit_is_known_and_nothing_is_tried_twice(
    kind: ProviderKind, error_of: Fails
) -> None:
    body = {"error": {"message": "slow down", "type": "rate_limit_error"}, "message": "slow down"}
    headers = {"Retry-After": "3", "x-amzn-ErrorType": "ThrottlingException"}
    error, found = error_of(kind, 429, body, headers)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3
    assert len(found.seen) == 1


def test_a_daily_quota_of_googles_is_one_models_alone(streams: bool) -> None:
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = [{"@type": "google.rpc.QuotaFailure", "violations": [violation]}]
    told = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no", "details": details}
    with recorder({"error": told}, 429) as found, pytest.raises(QuotaExhausted) as caught:
        ask("google", found.url, streams)
    assert not caught.value.whole_key


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_at_fault_is_unavailable_and_nothing_is_tried_twice(
    kind: ProviderKind, error_of: Fails
) -> None:
    body = {"error": {"message": "oh", "type": "api_error"}, "message": "oh"}
    error, found = error_of(kind, 500, body, {"x-amzn-ErrorType": "InternalServerException"})
    assert type(error) is Unavailable
    assert len(found.seen) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_key_is_not_allowed(kind: ProviderKind, error_of: Fails) -> None:
    body = {"error": {"message": "bad key the-key", "type": "authentication_error"}}
    error, _ = error_of(kind, 401, body, {"x-amzn-ErrorType": "UnrecognizedClientException"})
    assert isinstance(error, NotAllowed)
    assert "the-key" not in str(error)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *[(kind, "sk-SECRET\u00e9") for kind in ("openai", "google", "mistral", "groq")],
        *[(kind, "sk-SECRET\n") for kind in ("openai", "anthropic", "mistral", "groq")],
    ],
)
def test_a_key_that_no_header_can_carry_shows_nowhere(
    kind: ProviderKind, key: str, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    # At DEBUG the clients tell all: there it is settings that keep such a key from them.
    caplog.set_level(logging.INFO)
    with recorder(PROTOCOLS[kind].answer) as found, pytest.raises(Unavailable) as caught:
        asyncio.run(caller(kind, found.url, streams, key).ask("hello", "be brief", 64, 0.0))
    assert not found.seen, "the key was sent after all: this checks nothing"
    told = "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in told + repr(caught.value) + caplog.text
    assert re.search("UnicodeEncodeError|LocalProtocolError", told), "nobody could find out why"


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_over_the_window_is_known(kind: ProviderKind, error_of: Fails) -> None:
    headers = {"x-amzn-ErrorType": "ValidationException"}
    error, _ = error_of(kind, 400, PROTOCOLS[kind].too_long, headers)
    assert isinstance(error, ContextWindowExceeded)


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_fault_of_the_request_is_final(kind: ProviderKind, error_of: Fails) -> None:
    body = {"error": {"message": "what?", "type": "invalid_request_error"}, "message": "what?"}
    error, _ = error_of(kind, 400, body, {"x-amzn-ErrorType": "ValidationException"})
    assert type(error) is NeverRetry


@pytest.mark.parametrize("kind", [kind for kind in KINDS if PROTOCOLS[kind].filtered])
def test_a_refusal_is_known_and_charged(kind: ProviderKind, streams: bool) -> None:
    answer = served(kind, PROTOCOLS[kind].filtered, streams)
    with recorder(answer) as found, pytest.raises(ModelRefused) as caught:
        ask(kind, found.url, streams)
    assert isinstance(caught.value.reply, ModelReply)
    assert caught.value.reply.cost_nanodollars > 0


def _cut_at_its_limit(kind: ProviderKind) -> Mapping[str, Any]:
    answer = PROTOCOLS[kind].answer
    if kind == "google":
        return {**answer, "candidates": [{**CANDIDATE, "finishReason": "MAX_TOKENS"}]}
    if kind in ("anthropic", "bedrock"):
        return {**answer, "stop_reason" if kind == "anthropic" else "stopReason": "max_tokens"}
    return _finished(dict(answer), "length")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_was_cut_at_its_limit_says_so(kind: ProviderKind, streams: bool) -> None:
    with recorder(served(kind, PROTOCOLS[kind].answer, streams)) as found:
        assert ask(kind, found.url, streams).finish_reason == "stop"
    with recorder(served(kind, _cut_at_its_limit(kind), streams)) as found:
        assert ask(kind, found.url, streams).finish_reason == "length"


@pytest.mark.parametrize("kind", ["openai", "groq"])
def test_thoughts_among_the_text_are_left_out_wherever_a_stream_cuts(
    kind: ProviderKind, streams: bool
) -> None:
    # Half of it ends in the midst of the tag.
    said = dict(_chat())
    message = {"role": "assistant", "content": "<think>so</think>42"}
    said["choices"] = [{**said["choices"][0], "message": message}]
    with recorder(served(kind, said, streams)) as found:
        assert ask(kind, found.url, streams).text == "42"


@pytest.mark.parametrize("kind", ["openai", "mistral"])
def test_thoughts_among_the_parts_of_a_text_are_left_out(kind: ProviderKind) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]}
    parts = [thought, {"type": "text", "text": "good "}, {"type": "hologram"}, "day"]
    said = dict(_chat())
    message = {"role": "assistant", "content": parts}
    said["choices"] = [{**said["choices"][0], "message": message}]
    with recorder(said) as found:
        assert ask(kind, found.url, False).text == "good day"


# What is cut


FIRST_HALF: Mapping[ProviderKind, int] = {
    **dict.fromkeys(KINDS, 2),
    "anthropic": 4,
    "google": 1,
}
"""How many frames of an answer it takes to say "good"."""

TOLD_EARLY: Mapping[ProviderKind, Tokens] = {
    "anthropic": Tokens(100, 1, 40),
    "google": Tokens(100, 20, 40),
}
"""What a stream tells of its tokens before it has ended."""


def half(kind: ProviderKind, ends: Literal["cut", "open"]) -> Stream:
    frames = [*EVENTS[kind](PROTOCOLS[kind].answer)][: FIRST_HALF[kind]]
    return Stream(frames, content_type(kind), ends)


async def broken(asking: ModelCaller) -> CallProgress:
    progress = CallProgress()
    with pytest.raises(Unavailable) as caught:
        await asking.ask("hello", "be brief", 64, 0.0, progress)
    assert caught.value.may_be_served
    return progress


async def cancelled(asking: ModelCaller, provider: Recorder) -> CallProgress:
    progress = CallProgress()
    asked = asyncio.create_task(asking.ask("hello", "be brief", 64, 0.0, progress))
    assert await asyncio.to_thread(provider.sent.wait, 20)
    # It is sent, and has yet to be read.
    await asyncio.sleep(0.3)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    return progress


def tells_the_first_half(kind: ProviderKind, progress: CallProgress) -> None:
    assert progress.cut is not None
    # Of what Gemini thinks not all is shown.
    assert progress.cut.shown_bytes == (None if kind == "google" else len("good"))
    assert progress.cut.told == TOLD_EARLY.get(kind, Tokens(0, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_breaks_is_unavailable_and_tells_what_had_come(kind: ProviderKind) -> None:
    with recorder(half(kind, "cut")) as found:
        progress = asyncio.run(broken(caller(kind, found.url, True)))
    tells_the_first_half(kind, progress)


@pytest.mark.parametrize("reasoning", [0, 8])
def test_a_stream_that_tells_of_unseen_reasoning_does_not_bound_what_it_took(
    reasoning: int,
) -> None:
    told = _chat(completion_tokens_details={"reasoning_tokens": reasoning})
    frames = [*told_as_it_grows(told)][:2]
    with recorder(Stream(frames, content_type("openai"), "cut")) as found:
        progress = asyncio.run(broken(caller("openai", found.url, True)))
    assert progress.cut is not None
    assert progress.cut.shown_bytes == (None if reasoning else len("good"))
    assert progress.cut.told == Tokens(100, 10, reasoning=reasoning)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_cancelled_is_closed_at_once_and_tells_what_had_come(
    kind: ProviderKind,
) -> None:
    with recorder(half(kind, "open")) as found:
        progress = asyncio.run(cancelled(caller(kind, found.url, True), found))
        assert found.hung_up.wait(30), "the provider did not hear of it"
    tells_the_first_half(kind, progress)


IN_ONE_PIECE = ("openai", "anthropic", "google", "mistral")
"""The protocols whose answers are written anew."""


@pytest.mark.parametrize("kind", IN_ONE_PIECE)
def test_an_answer_may_come_in_one_piece_where_a_stream_was_asked_for(kind: ProviderKind) -> None:
    with recorder(PROTOCOLS[kind].answer) as found:
        assert ask(kind, found.url, True).output_tokens == 20


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in IN_ONE_PIECE])
def test_a_server_that_does_not_stream_is_unavailable(kind: ProviderKind) -> None:
    with recorder(PROTOCOLS[kind].answer) as found:
        progress = asyncio.run(broken(caller(kind, found.url, True)))
    assert progress.cut is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_nothing_tells_nothing(kind: ProviderKind) -> None:
    with recorder(Stream([], content_type(kind), "open")) as found:
        progress = asyncio.run(cancelled(caller(kind, found.url, True), found))
        assert found.hung_up.wait(30), "the provider did not hear of it"
    assert progress.cut is None


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("anthropic", "anthropic"),
        ("google", "google.genai"),
        ("bedrock", "boto3"),
        ("mistral", "mistralai"),
        ("groq", "groq"),
    ],
)
def test_a_package_that_is_missing_is_named_with_how_to_install_it(
    kind: ProviderKind, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith(package)]:
        monkeypatch.delitem(sys.modules, module)
    for module in [m for m in sys.modules if m.startswith("pydantic_ai.") and m.endswith(kind)]:
        monkeypatch.delitem(sys.modules, module)
    # What an import meets where a package is not installed.
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidConfig, match=rf"pip install 'fleet\[{kind}\]'"):
        caller(kind, "http://127.0.0.1:9", True)


def test_bedrock_without_a_region_says_where_to_set_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    model = Model("amazon.nova-lite-v1:0", "bedrock", PRICE, 0.9, 0.9)
    with pytest.raises(InvalidConfig, match="AWS_DEFAULT_REGION"):
        ModelCaller(model, Endpoint("bedrock", "the-key"), 5)
