"""What is read of an answer: its text, its tokens and its end, of whatever protocol, in one piece
or as a stream, and an error in place of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorder import Recorder, Stream, recorder
from told_answers import FORMS, Fault, Told, event

from fleet.agent import ModelReply
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    ModelNotServed,
    ModelRefused,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from fleet.models.answers.faults import fault_in
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.rules.choice import Model, Price
from fleet.models.rules.cut_calls import CallProgress
from fleet.models.rules.thoughts import split
from fleet.settings.providers import ProviderKind

PRICE = Price.per_thousand(0.003, 0.015)


class Provider:
    """A fake of one protocol, and a client that keeps its connections for all of a module."""

    def __init__(self, kind: ProviderKind, streams: bool, loop: asyncio.Runner) -> None:
        self.kind = kind
        self.form = FORMS[kind]
        self.streams = streams
        self.loop = loop
        self.found: Recorder
        self.caller: ModelCaller
        self.progress = CallProgress()

    def listen(self, found: Recorder) -> None:
        """Ask this server from now on."""
        self.found = found
        model = Model(self.form.model, self.kind, PRICE, 0.9, 0.9)
        endpoint = Endpoint(self.kind, "k", found.url + self.form.path, streams=self.streams)
        self.caller = ModelCaller(model, endpoint, 60)

    def ask(self, served: Mapping[str, Any] | Stream) -> ModelReply:
        """The reply to an answer."""
        self.found.body = served
        self.progress = CallProgress()
        return self.loop.run(self.caller.ask("hello", "", 64, 0.0, self.progress))

    def tell(self, told: Told) -> ModelReply:
        """The reply to an answer as it is asked for."""
        if not self.streams:
            return self.ask(self.form.whole(told))
        return self.ask(Stream(self.form.frames(told), "text/event-stream"))

    def fails(self, fault: Fault, told: Told | None = None) -> FleetError:
        """The error for one inside a 200, in the midst of an answer where one is given."""
        served: Mapping[str, Any] | Stream = fault.body(self.kind)
        if self.streams:
            begun = self.form.frames(told)[:-2] if told else []
            served = Stream([*begun, fault.event(self.kind)], "text/event-stream")
        with pytest.raises(FleetError) as caught:
            self.ask(served)
        return caught.value


@pytest.fixture(scope="module")
def module_loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as found:
        yield found


@pytest.fixture(
    scope="module",
    params=[(kind, streams) for kind in FORMS for streams in (False, True)],
    ids=lambda each: f"{each[0]} {'streamed' if each[1] else 'whole'}",
)
def provider(request: pytest.FixtureRequest, module_loop: asyncio.Runner) -> Iterator[Provider]:
    """Each protocol, in each way."""
    with recorder({}) as found:
        made = Provider(*request.param, module_loop)
        made.listen(found)
        yield made


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("error", "error"),
        ("new", "unknown"),
    ],
)
@pytest.mark.parametrize("odd", [False, True], ids=["in shape", "odd"])
def test_text_tokens_and_end_are_read_whatever_else_there_is(
    provider: Provider, ends: str, reason: str, odd: bool
) -> None:
    reply = provider.tell(Told(ends=ends, odd=odd))
    assert (reply.text, reply.finish_reason) == ("good day", reason)
    assert (reply.input_tokens, reply.output_tokens) == (100, 20)
    assert reply.cost_nanodollars == 600_000
    assert not (reply.usage_missing or reply.usage_contradictory)


@pytest.mark.parametrize("odd", [False, True], ids=["in shape", "odd"])
def test_an_answer_without_usage_is_read_and_is_without_it(provider: Provider, odd: bool) -> None:
    reply = provider.tell(Told(usage=None, odd=odd))
    assert (reply.text, reply.usage_missing) == ("good day", True)


@pytest.mark.parametrize("ends", [None, "empty"])
def test_an_answer_that_has_come_to_its_end_need_not_say_why(
    provider: Provider, ends: str | None
) -> None:
    if provider.kind == "google" and provider.streams:
        # Nothing else tells the end of such a stream from a connection that was closed.
        with pytest.raises(Unavailable) as caught:
            provider.tell(Told(ends=ends))
        assert caught.value.may_be_served
    else:
        reply = provider.tell(Told(ends=ends))
        assert (reply.text, reply.finish_reason) == ("good day", "unknown")


def test_a_filtered_answer_is_a_refusal_that_is_charged(provider: Provider) -> None:
    with pytest.raises(ModelRefused) as caught:
        provider.tell(Told(ends="content_filter"))
    assert isinstance(caught.value.reply, ModelReply)
    assert caught.value.reply.finish_reason == "content_filter"
    assert caught.value.reply.cost_nanodollars == 600_000


def test_an_error_without_a_word_is_no_answer_and_charged_as_it_was_told(
    provider: Provider,
) -> None:
    with pytest.raises(Unavailable, match="before it wrote any text") as caught:
        provider.tell(Told(pieces=(), ends="error", usage=(100, 0)))
    assert not caught.value.may_be_served
    assert isinstance(caught.value.reply, ModelReply)
    assert caught.value.reply.input_tokens == 100
    with pytest.raises(Unavailable, match="before it wrote any text") as caught:
        provider.tell(Told(pieces=(), ends="error", usage=None))
    assert (caught.value.may_be_served, caught.value.reply) == (False, None)


FAULTS = {
    "slow down": (
        Fault(429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        RateLimited,
    ),
    "a wrong key": (
        Fault(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
        NotAllowed,
    ),
    "no money": (
        Fault(402, "insufficient_balance", "billing_error", "FAILED_PRECONDITION"),
        QuotaExhausted,
    ),
    "no model": (
        Fault(404, "model_not_found", "not_found_error", "NOT_FOUND"),
        ModelNotServed,
    ),
    "a fault": (Fault(500, "server_error", "api_error", "INTERNAL"), Unavailable),
    "too many": (Fault(503, "overloaded", "overloaded_error", "UNAVAILABLE"), Unavailable),
}


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=[*FAULTS])
def test_an_error_inside_a_200_is_what_it_says_and_costs_nothing(
    provider: Provider, fault: Fault, error: type[FleetError]
) -> None:
    found = provider.fails(fault)
    assert type(found) is error
    assert not getattr(found, "may_be_served", False)
    assert provider.progress.cut is None


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=[*FAULTS])
def test_an_error_in_the_midst_of_an_answer_is_what_it_says_and_tells_what_had_come(
    provider: Provider, fault: Fault, error: type[FleetError]
) -> None:
    if not provider.streams:
        return
    assert type(provider.fails(fault, Told(pieces=("good", " day", "!")))) is error
    assert provider.progress.cut is not None


@pytest.mark.parametrize("cut", [*range(1, 6)])
def test_a_character_that_a_stream_cuts_is_whole_and_half_a_one_is_replaced(
    provider: Provider, cut: int
) -> None:
    text = "a\ud83d\ude00b\ud83d"
    assert provider.tell(Told(pieces=(text[:cut], text[cut:]))).text == "a\U0001f600b\ufffd"


def test_what_looks_like_the_end_of_a_line_is_text(provider: Provider) -> None:
    text = "a\u2028b\x85c\rd\0e"
    assert provider.tell(Told(pieces=(text[:4], text[4:]))).text == text


@pytest.mark.parametrize(
    "content", [5, {"text": "x"}, True], ids=["a number", "an object", "a truth"]
)
def test_what_is_no_text_is_not_taken_for_it(provider: Provider, content: Any) -> None:
    told = Told(pieces=("#",))
    form = provider.form
    served = json.loads(json.dumps(form.whole(told)).replace('"#"', json.dumps(content)))
    body: Mapping[str, Any] | Stream = served
    if provider.streams:
        raw = json.dumps(content).encode()
        frames = [each.replace(b'"#"', raw) for each in form.frames(told)]
        body = Stream(frames, "text/event-stream")
    with pytest.raises(Unavailable, match="read") as caught:
        provider.ask(body)
    assert caught.value.may_be_served


# Thoughts

TAGGED = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<think type='deep'>", "<", "\n", " ", "so", "42", "```", "é"]
    ),
    min_size=1,
    max_size=10,
).map("".join)


@pytest.fixture(scope="module")
def streamed_chat(module_loop: asyncio.Runner) -> Iterator[Provider]:
    with recorder({}) as found:
        made = Provider("openai", True, module_loop)
        made.listen(found)
        yield made


@pytest.fixture(scope="module")
def whole_chat(module_loop: asyncio.Runner) -> Iterator[Provider]:
    with recorder({}) as found:
        made = Provider("openai", False, module_loop)
        made.listen(found)
        yield made


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TAGGED, cuts=st.lists(st.integers(0, 60), max_size=8))
def test_any_cut_of_any_text_with_tags_gives_what_the_whole_gives(
    streamed_chat: Provider, whole_chat: Provider, text: str, cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    streamed, whole = streamed_chat.tell(Told(pieces)), whole_chat.tell(Told((text,)))
    assert streamed.text == whole.text == split(text).text
    assert (streamed.output_tokens, streamed.cost_nanodollars) == (20, 600_000)
    assert streamed.model_copy(update={"seconds": 0}) == whole.model_copy(update={"seconds": 0})


def test_thoughts_that_are_kept_apart_do_not_part_the_text(
    streamed_chat: Provider, whole_chat: Provider
) -> None:
    told = Told(("4", "2"))
    frames = streamed_chat.form.frames(told)
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}
    apart = f"data: {json.dumps(thought)}\n\n".encode()
    between = [*frames[:1], apart, *frames[1:2], apart, *frames[2:]]
    assert streamed_chat.ask(Stream(between, "text/event-stream")).text == "42"
    body = whole_chat.form.whole(told)
    body["choices"][0]["message"]["reasoning_content"] = "hm"
    assert whole_chat.ask(body).text == "42"


def test_a_stream_that_is_cut_within_thoughts_is_bound_by_all_that_it_has_shown(
    streamed_chat: Provider,
) -> None:
    frames = streamed_chat.form.frames(Told(("<thi", "nk>so ", "so")))[:-3]
    with pytest.raises(Unavailable):
        streamed_chat.ask(Stream(frames, "text/event-stream", "cut"))
    cut = streamed_chat.progress.cut
    assert cut is not None
    assert cut.shown_bytes == len("<think>so so")


# The shapes of errors


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": 429, "message": "x"}}, 429),
        ({"error": {"code": "429", "message": "x"}}, 429),
        ({"error": {"type": "rate_limit_error", "message": "x"}}, 429),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, 429),
        ({"error": "slow down", "status": 429}, 429),
        ({"error": "slow down"}, 429),
        ({"error": "out of order"}, 500),
        ({"error": "rate_limit_exceeded"}, 429),
        ({"error": "429 Too Many Requests"}, 429),
        ({"error": "Error code: 401 - no"}, 401),
        ({"error": "Unauthorized"}, 401),
        ({"error": {"message": "Rate limit reached for some-model"}}, 429),
        ({"error": {"message": "maximum context length is 4096 tokens"}}, 400),
        ({"error": {"message": "The server is overloaded"}}, 503),
        ({"error": {"code": "rate_limited", "message": "x"}}, 429),
        ({"error": {"code": "1302", "message": "rate limit"}}, 429),
        ({"error": {"code": 0, "message": "x"}}, 500),
        ({"error": {"error": {"code": 429, "message": "x"}}}, 429),
        ({"error": True, "message": "Invalid API key", "status": 401}, 401),
        ({"code": 429, "msg": "x"}, 429),
        ({"code": "429", "msg": "x", "data": None}, 429),
        ({"status": 401, "title": "x"}, 401),
        ({"code": "InvalidApiKey", "message": "x"}, 401),
        ({"code": "Throttling.RateQuota", "message": "x"}, 429),
        ({"error_code": 18, "error_msg": "qps request limit reached"}, 429),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, 429),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []}, None),
        ({"fault": {"faultstring": "Rate limit quota violation"}}, 429),
        ({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, 401),
        ({"detail": [{"loc": ["body"], "msg": "x", "type": "value_error"}]}, 422),
        ({"object": "error", "message": {"detail": []}, "type": "invalid_request_error"}, 400),
        ({"error": {"code": 502}, "choices": [{"text": "half"}]}, None),
        ("Too Many Requests", 429),
        ("<html><title>503 Service Unavailable</title></html>", 503),
        ("good day", None),
        ({"error": {"code": None, "message": None}, "choices": [{"message": {}}]}, None),
        ({"error": {"code": 0, "message": "success"}, "choices": [{"message": {}}]}, None),
        ({"error": {"message": "x", "code": "insufficient_quota"}, "choices": []}, 429),
        ([{"error": {"code": 401, "message": "x"}}], 401),
        ({"errors": [{"message": "x", "code": 401}]}, 401),
        ({"object": "error", "message": "x", "code": 404}, 404),
        ({"object": "error", "message": "x", "type": "NotFoundError", "code": 40403}, 404),
        ({"detail": "x", "status_code": 503}, 503),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 503),
        ({"choices": [{"error": {"code": 502}, "message": {"content": ""}}]}, 502),
        ({"error": None, "choices": [{"message": {"content": "x"}}]}, None),
        ({"error": {"code": 502}, "choices": [{"message": {"content": "half"}}]}, None),
        ({"choices": [{"message": {"content": ""}}]}, None),
        ({"ok": True}, None),
        ([], None),
        (None, None),
    ],
)
def test_an_error_is_known_by_any_of_its_shapes(body: Any, status: int | None) -> None:
    fault = fault_in(body)
    assert (fault and fault.status) == status


def test_a_prompt_over_the_window_is_known_inside_a_200(provider: Provider) -> None:
    words = "prompt is too long: 200001 tokens > 200000 maximum"
    body = Fault(400, "x", "invalid_request_error", "INVALID_ARGUMENT").body(provider.kind)
    body["error"]["message"] = words
    with pytest.raises(ContextWindowExceeded):
        provider.ask(body)


# Answers in the shape of another


def test_a_whole_answer_to_a_request_for_a_stream_is_read(provider: Provider) -> None:
    if not provider.streams:
        return
    reply = provider.ask(provider.form.whole(Told(ends="length")))
    assert (reply.text, reply.finish_reason) == ("good day", "length")
    assert (reply.input_tokens, reply.output_tokens, reply.usage_missing) == (100, 20, False)
    assert provider.ask(provider.form.whole(Told(ends=None))).text == "good day"


def test_a_text_in_place_of_an_answer_is_the_error_that_it_tells_of(provider: Provider) -> None:
    page = Stream([b"<html><h1>429 Too Many Requests</h1></html>"], "text/html")
    with pytest.raises(RateLimited):
        provider.ask(page)


@pytest.mark.parametrize("field", ["message", "delta"])
def test_text_is_read_where_servers_mix_the_fields_of_messages_pieces_and_texts(
    streamed_chat: Provider, whole_chat: Provider, field: str
) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    for said in ({field: {"content": "good day"}}, {"text": "good day"}):
        body = {"choices": [{**said, "finish_reason": "stop"}], "usage": usage}
        events = Stream([event(body), event("[DONE]")], "text/event-stream")
        for reply in (whole_chat.ask(body), streamed_chat.ask(events)):
            assert (reply.text, reply.output_tokens) == ("good day", 20)


def test_usage_is_found_in_the_choice_and_beside_it(
    streamed_chat: Provider, whole_chat: Provider
) -> None:
    usage = {"usage": {"prompt_tokens": 100, "completion_tokens": 20}}
    choice = {"message": {"content": "good day"}, "finish_reason": "stop"}
    for body in (
        {"choices": [{**choice, **usage}]},
        {"choices": [choice], "x_groq": usage},
    ):
        events = Stream([event(body), event("[DONE]")], "text/event-stream")
        for reply in (whole_chat.ask(body), streamed_chat.ask(events)):
            assert (reply.output_tokens, reply.usage_missing) == (20, False)


@pytest.mark.parametrize("frames", [[{}], [{"choices": []}], []], ids=["{}", "none", "nothing"])
def test_a_stream_that_says_it_is_done_without_an_answer_is_none(
    streamed_chat: Provider, frames: list[Any]
) -> None:
    events = [*map(event, frames), event("[DONE]")]
    with pytest.raises(Unavailable, match="read"):
        streamed_chat.ask(Stream(events, "text/event-stream"))


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("COMPLETE", "stop"),
        ("max_length", "length"),
        ("insufficient_system_resource", "error"),
        ("network_error", "error"),
    ],
)
def test_an_end_is_known_by_the_words_of_other_servers(
    streamed_chat: Provider, whole_chat: Provider, word: str, reason: str
) -> None:
    for chat in (streamed_chat, whole_chat):
        body = chat.form.whole(Told())
        body["choices"][0]["finish_reason"] = word
        assert chat.ask(body).finish_reason == reason


@pytest.mark.parametrize("word", ["sensitive", "RECITATION"])
def test_a_filter_is_known_by_the_words_of_other_servers(whole_chat: Provider, word: str) -> None:
    body = whole_chat.form.whole(Told())
    body["choices"][0]["finish_reason"] = word
    with pytest.raises(ModelRefused):
        whole_chat.ask(body)


def test_a_part_of_a_text_that_is_none_is_not_left_out(whole_chat: Provider) -> None:
    body = whole_chat.form.whole(Told())
    body["choices"][0]["message"]["content"] = [{"type": "text", "text": {"value": "good day"}}]
    assert whole_chat.ask(body).text == "good day"
    body["choices"][0]["message"]["content"] = [{"type": "text", "text": 5}]
    with pytest.raises(Unavailable, match="read"):
        whole_chat.ask(body)


def test_nothing_is_no_answer(provider: Provider) -> None:
    kind = "text/event-stream" if provider.streams else "application/json"
    with pytest.raises(Unavailable, match="read"):
        provider.ask(Stream([b" "], kind))


def test_an_answer_that_is_nested_too_deep_cannot_be_read(
    streamed_chat: Provider, whole_chat: Provider
) -> None:
    for chat in (streamed_chat, whole_chat):
        body = chat.form.whole(Told())
        text: Any = "good day"
        for _ in range(400):
            text = [{"type": "thinking", "thinking": text}]
        body["choices"][0]["message"]["content"] = text
        with pytest.raises(Unavailable, match="read"):
            chat.ask(body)


def test_an_event_that_is_a_text_is_the_error_that_it_tells_of(provider: Provider) -> None:
    if provider.streams:
        with pytest.raises(RateLimited):
            provider.ask(Stream([event("Too many requests", "error")], "text/event-stream"))
        with pytest.raises(Unavailable, match="read"):
            provider.ask(Stream([event("good day")], "text/event-stream"))


@pytest.fixture(scope="module")
def messages(module_loop: asyncio.Runner) -> Iterator[Provider]:
    with recorder({}) as found:
        made = Provider("anthropic", True, module_loop)
        made.listen(found)
        yield made


def test_a_message_without_its_first_event_is_read_and_without_any_is_none(
    messages: Provider,
) -> None:
    frames = messages.form.frames(Told())
    reply = messages.ask(Stream(frames[1:], "text/event-stream"))
    assert (reply.text, reply.usage_missing) == ("good day", True)
    for frame in (frames[-1], event("[DONE]")):
        with pytest.raises(Unavailable, match="read"):
            messages.ask(Stream([frame], "text/event-stream"))


def test_a_refusal_without_content_is_one(messages: Provider) -> None:
    body = {**messages.form.whole(Told(ends="content_filter")), "content": None}
    with pytest.raises(ModelRefused):
        messages.ask(body)
