"""What a call to a model gives, and each way in which it can fail, over HTTP."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from context import MODEL
from fake_provider import (
    Behaviour,
    FakeProvider,
    answer,
    bad_request,
    broken,
    cut,
    filtered,
    filtered_prompt,
    garbled,
    hang,
    out_of_quota,
    rate_limited,
    refused,
    too_long,
    wrong_key,
)

from fleet.agent import ModelReply
from fleet.errors import (
    ContextWindowExceeded,
    FleetError,
    ModelNotServed,
    ModelRefused,
    NeverRetry,
    NotAllowed,
    RateLimited,
    Unavailable,
)
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.calls.errors import QUOTA_SECONDS, RATE_LIMIT_SECONDS
from fleet.models.rules.choice import Model, Price, Tokens

PRICE = Price.per_thousand(0.0025, 0.01, 0.00125)
PAID = Model("gpt-4o", "openai", PRICE, 0.9, 0.9)
LOCAL = Model(MODEL, "local", None, 0.3, 0.6, free=True)


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as found:
        yield found


def ask(url: str, model: Model = PAID, timeout: float = 30, prompt: str = "hello") -> ModelReply:
    key = "local" if model is LOCAL else "sk-secret"
    caller = ModelCaller(model, Endpoint("openai", key, url), timeout)
    return asyncio.run(caller.ask(prompt, "be brief", 64, 0.0))


def failure(fake: FakeProvider, behaviour: Behaviour, timeout: float = 30) -> FleetError:
    """The error of a call that gets this behaviour, after exactly one request."""
    fake.script("gpt-4o", behaviour)
    with pytest.raises(FleetError) as caught:
        ask(fake.base_url, timeout=timeout)
    assert fake.count("gpt-4o") == 1, "a client tried again by itself"
    assert "sk-secret" not in "".join(traceback.format_exception(caught.value))
    return caught.value


def test_an_answer_tells_its_tokens_its_cost_and_its_time(fake: FakeProvider) -> None:
    fake.script("gpt-4o", answer("good day", 1000, 200, cached_tokens=400))
    reply = ask(fake.base_url)
    assert (reply.text, reply.model) == ("good day", "gpt-4o")
    assert (reply.input_tokens, reply.cached_input_tokens, reply.output_tokens) == (1000, 400, 200)
    assert reply.cost_nanodollars == PRICE.cost(Tokens(1000, 200, 400)) == 4_000_000
    assert 0 < reply.seconds < 30
    assert not reply.usage_missing


def test_an_answer_tells_how_much_of_the_output_was_reasoning(fake: FakeProvider) -> None:
    fake.script("gpt-4o", answer("good day", 1000, 200, reasoning_tokens=150))
    reply = ask(fake.base_url)
    assert (reply.output_tokens, reply.reasoning_tokens) == (200, 150)
    assert reply.cost_nanodollars == PRICE.cost(Tokens(1000, 200))


def test_an_answer_of_a_model_without_a_price_says_so(fake: FakeProvider) -> None:
    model = Model("gpt-4o", "openai", None, 0.9, 0.9)
    fake.script("gpt-4o", answer("good day", 1000, 200))
    endpoint = Endpoint("openai", "sk-secret", fake.base_url)
    reply = asyncio.run(ModelCaller(model, endpoint, 30).ask("hello", "", 64, 0.0))
    assert (reply.unpriced, reply.cost_nanodollars, reply.output_tokens) == (True, 0, 200)


def test_a_request_carries_key_prompt_and_instructions(fake: FakeProvider) -> None:
    ask(fake.base_url)
    (received,) = fake.requests()
    assert received.key == "sk-secret"
    assert [message["content"] for message in received.body["messages"]] == ["be brief", "hello"]


def test_an_answer_without_usage_says_that_it_is_missing(fake: FakeProvider) -> None:
    fake.script("gpt-4o", answer("free?", usage=False))
    reply = ask(fake.base_url)
    assert reply.usage_missing
    assert (reply.text, reply.input_tokens, reply.cost_nanodollars) == ("free?", 0, 0)


@pytest.mark.parametrize(
    ("behaviour", "wait"),
    [
        (rate_limited(retry_after=2), 2.0),
        (rate_limited(milliseconds=1500), 1.5),
        (rate_limited(retry_after=7, milliseconds=250), 0.25),
        (rate_limited(), RATE_LIMIT_SECONDS),
        (rate_limited(retry_after="soon"), RATE_LIMIT_SECONDS),
        (rate_limited(retry_after="1.5"), 1.5),
        (rate_limited(retry_after=0), RATE_LIMIT_SECONDS),
        (out_of_quota(), QUOTA_SECONDS),
        (bad_request("Insufficient balance, please recharge", status=429), QUOTA_SECONDS),
        (bad_request("credit balance is too low", status=500), QUOTA_SECONDS),
        (bad_request("You exceeded your current quota for a minute", status=429), 10.0),
    ],
)
def test_a_rate_limit_says_when_to_come_back(
    fake: FakeProvider, behaviour: Behaviour, wait: float
) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, RateLimited)
    assert error.retry_after == wait


def test_a_date_to_come_back_at_is_turned_into_seconds(fake: FakeProvider) -> None:
    later = datetime.now(UTC) + timedelta(seconds=60)
    error = failure(fake, rate_limited(retry_after=format_datetime(later, usegmt=True)))
    assert isinstance(error, RateLimited)
    assert 30 < error.retry_after <= 60


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 529])
def test_a_provider_at_fault_is_unavailable(fake: FakeProvider, status: int) -> None:
    error = failure(fake, broken(status, retry_after=9))
    assert type(error) is Unavailable
    assert error.retry_after == 9
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("behaviour", [cut(), garbled()])
def test_an_answer_that_is_none_is_unavailable(fake: FakeProvider, behaviour: Behaviour) -> None:
    assert type(failure(fake, behaviour)) is Unavailable


def test_a_provider_that_hangs_is_given_up(fake: FakeProvider) -> None:
    assert type(failure(fake, hang(), timeout=0.3)) is Unavailable


def test_a_provider_that_is_not_there_is_unavailable() -> None:
    with FakeProvider() as gone:
        url = gone.base_url
    with pytest.raises(Unavailable, match="gpt-4o"):
        ask(url)


@pytest.mark.parametrize(
    "behaviour",
    [
        too_long(),
        bad_request("prompt is too long: 210000 tokens > 200000 maximum"),
        bad_request("input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000"),
        bad_request("The input token count (2) exceeds the maximum number of tokens allowed (1)."),
        bad_request(
            "request (6000 tokens) exceeds the available context size (4096 tokens)",
            kind="exceed_context_size_error",
        ),
        bad_request("Please reduce the length of the messages or completion."),
        bad_request("Input is too long for requested model."),
        bad_request("Too many input tokens: input tokens exceeded the limit"),
        bad_request("too large for model with 32768 maximum context length"),
        bad_request("Request too large", status=413),
    ],
)
def test_a_prompt_over_the_window_is_known_by_every_providers_words(
    fake: FakeProvider, behaviour: Behaviour
) -> None:
    assert isinstance(failure(fake, behaviour), ContextWindowExceeded)


@pytest.mark.parametrize(
    "behaviour",
    [
        filtered_prompt(),
        bad_request("no", code="content_policy_violation"),
        bad_request("Invalid prompt: flagged", code="invalid_prompt"),
        bad_request("Output blocked by content filtering policy"),
        bad_request("Content Exists Risk"),
    ],
)
def test_a_prompt_that_is_not_let_in_is_refused(fake: FakeProvider, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, ModelRefused)
    assert error.reply is None


@pytest.mark.parametrize("behaviour", [filtered(), refused()])
def test_a_refusal_tells_what_it_took(fake: FakeProvider, behaviour: Behaviour) -> None:
    usage = answer("", 700, 3).body["usage"]
    error = failure(fake, Behaviour(body={**behaviour.body, "usage": usage}))
    assert isinstance(error, ModelRefused)
    assert isinstance(error.reply, ModelReply)
    assert error.reply.cost_nanodollars == PRICE.cost(Tokens(700, 3)) > 0


@pytest.mark.parametrize("behaviour", [wrong_key(), bad_request("no", status=403)])
def test_a_key_that_is_refused_is_not_allowed(fake: FakeProvider, behaviour: Behaviour) -> None:
    assert isinstance(failure(fake, behaviour), NotAllowed)


@pytest.mark.parametrize(
    ("behaviour", "error", "words"),
    [
        (bad_request("odd", code="odd_request"), NeverRetry, "HTTP 400.*odd_request"),
        (bad_request(code="unknown_parameter"), NeverRetry, "parameter.*unknown_parameter"),
        (
            bad_request("no", status=404, code="model_not_found"),
            ModelNotServed,
            "no such model.*base_url",
        ),
    ],
)
def test_any_other_refusal_is_final(
    fake: FakeProvider, behaviour: Behaviour, error: type[FleetError], words: str
) -> None:
    found = failure(fake, behaviour)
    assert type(found) is error
    assert re.search(words, str(found))


def test_a_code_that_is_text_is_not_shown(fake: FakeProvider) -> None:
    found = failure(fake, bad_request("odd", code="[red]odd\x1b[0m"))
    assert "odd" not in str(found)


def test_the_local_model_answers_and_tells_its_tokens(local_model_url: str) -> None:
    reply = ask(local_model_url, LOCAL, timeout=120)
    assert reply.text
    assert min(reply.input_tokens, reply.output_tokens) > 0
    assert (reply.cost_nanodollars, reply.usage_missing) == (0, False)


def test_a_prompt_over_the_local_models_window_is_told_from_other_faults(
    local_model_url: str,
) -> None:
    with pytest.raises(ContextWindowExceeded, match=MODEL):
        ask(local_model_url, LOCAL, timeout=120, prompt="one word after another " * 5000)
