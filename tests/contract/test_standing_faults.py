"""Faults of a provider that stay until somebody mends them: the next best model is asked, what is
at fault is left alone for long, and what every model refuses is the request's fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_provider import Behaviour, FakeProvider, bad_request, broken, rate_limited
from task_runs import Run
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.errors import (
    FleetError,
    ModelNotServed,
    NeverRetry,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    Unavailable,
)
from fleet.models.calls.call import ModelCaller
from fleet.models.calls.endpoint import Endpoint
from fleet.models.rules.choice import Model
from fleet.models.rules.learning import WHOLE_KEY

HOUR = 3600
TWO_PROVIDERS = """
[providers.other]
base_url = "{url}"
key_variable = "FAKE_API_KEY"
"""
ELSEWHERE = {
    f'[catalogue.{name}]\nprovider = "fake"': f'[catalogue.{name}]\nprovider = "other"'
    for name in ("middle", "huge")
}
"""small and large are of one provider, middle and huge of another."""


def told(message: str, code: str | None = None, status: int = 400) -> Behaviour:
    return bad_request(message, code, status=status)


def openrouter(message: str, status: int) -> Behaviour:
    """An error as OpenRouter and other gateways tell it."""
    return Behaviour(status, {"error": {"code": status, "message": message}})


GOOGLES_REGION = {
    "code": 400,
    "status": "FAILED_PRECONDITION",
    "message": "User location is not supported for the API use.",
}
MISTRALS_MODEL = {"object": "error", "message": "Invalid model: x", "type": "invalid_model"}
MISTRALS_FIELD = {
    "type": "extra_forbidden",
    "loc": ["body", "max_completion_tokens"],
    "msg": "Extra inputs are not permitted",
    "input": 64,
}
CREDIT = {
    "Anthropic's credit": told("Your credit balance is too low to access the Anthropic API."),
    "Anthropic's limit": told("You have reached your specified API usage limits. You will regain"),
    "DeepSeek's balance": told("Insufficient Balance", status=402),
    "OpenRouter's credit": openrouter("Insufficient credits. Add more", 402),
    "OpenRouter's key": openrouter("Key limit exceeded (total limit).", 403),
    "OpenAI's billing": told("Billing hard limit has been reached", "billing_hard_limit_reached"),
    "LiteLLM's budget": told("Budget has been exceeded! Current cost: 10.1", "budget_exceeded"),
    "a monthly limit": told("You exceeded your monthly included credits", status=400),
    "a budget": told("Organization has exceeded its monthly budget"),
    "a quota, forbidden": told("quota exceeded for project", status=403),
    "a budget, as a rate": told("Budget has been exceeded", "budget_exceeded", 429),
    "a plan's limit": told("The usage limit has been reached", "usage_limit_reached"),
}
REGION = {
    "OpenAI's region": told(
        "Country, region, or territory not supported", "unsupported_country_region_territory", 403
    ),
    "Google's region": Behaviour(400, {"error": GOOGLES_REGION}),
}
KEY = {
    "a wrong key": told("Incorrect API key provided", "invalid_api_key", 401),
    "Google's wrong key": told("API key not valid. Please pass a valid API key."),
    "a disabled account": told("This organization has been disabled."),
    "a key that may not": told("no", status=403),
    "a key that may not, in a text": Behaviour(403, {"error": "no access"}),
}
MODEL = {
    "a withdrawn model": told("The model `x` does not exist", "model_not_found", 404),
    "Groq's model": told("The model has been decommissioned", "model_decommissioned"),
    "a model that is gone": told("no", status=410),
    "a retired model": told("The model claude-2.0 was retired on 2025-07-21"),
    "a model's end of life": told("model text-x has reached end of life"),
    "a model with a name": told("Model 'foo' not found"),
    "a model that is not supported": told("model: claude-1.3 is not supported"),
    "no such model": told("No such model: foo"),
    "DeepSeek's model": told("Model Not Exist"),
    "OpenRouter's model": openrouter("some/thing is not a valid model ID", 400),
    "Mistral's model": Behaviour(400, {**MISTRALS_MODEL, "code": "1500"}),
}
PARAMETER = {
    "OpenAI's parameter": told(
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "unsupported_parameter",
    ),
    "OpenAI's value": told(
        "Unsupported value: 'temperature' does not support 0 with this model.", "unsupported_value"
    ),
    "Anthropic's parameter": told("max_completion_tokens: Extra inputs are not permitted"),
    "LiteLLM's parameter": told("UnsupportedParamsError: no parameters: ['stream_options']"),
    "an argument": told("unknown argument: max_completion_tokens"),
    "Mistral's parameter": Behaviour(422, {"detail": [MISTRALS_FIELD]}),
}
KINDS = {
    "credit": (CREDIT, QuotaExhausted),
    "region": (REGION, NotAllowed),
    "refused key": (KEY, NotAllowed),
    "model": (MODEL, ModelNotServed),
    "parameter": (PARAMETER, NeverRetry),
}
FAULTS = [
    pytest.param(kind, each, id=name)
    for kind, (faults, _) in KINDS.items()
    for name, each in faults.items()
]


@pytest.fixture
def two(start: Callable[..., Run], fake: FakeProvider) -> Callable[..., Run]:
    """Makes a run of a task with the models of two providers."""

    def make(**replaced: str) -> Run:
        return start(more=TWO_PROVIDERS.format(url=fake.base_url), **ELSEWHERE, **replaced)

    return make


def left_alone(run: Run) -> dict[str, tuple[float, str]]:
    """How long and why models are left alone, by name; keys by their provider."""
    now, facts = run.fleet.models.state.look()
    return {
        name or key_id.partition(":")[0]: (each.until - now, each.reason)
        for (key_id, name), each in facts.cooldowns.items()
    }


@pytest.fixture(scope="module")
def raised() -> Iterator[Callable[[Behaviour], FleetError]]:
    """The error of one call that gets a behaviour."""

    def error_of(behaviour: Behaviour) -> FleetError:
        fake.script("small", behaviour)
        with pytest.raises(FleetError) as caught:
            loop.run(caller.ask("hello", "", 64, 0.0))
        return caught.value

    with FakeProvider() as fake, asyncio.Runner() as loop:
        model = Model("small", "fake", None, 0.5, 0.5, free=True)
        caller = ModelCaller(model, Endpoint("openai", "sk-secret", fake.base_url), 20)
        yield error_of


@pytest.mark.parametrize(("kind", "behaviour"), FAULTS)
def test_a_standing_fault_is_known_by_the_words_of_each_provider(
    raised: Callable[[Behaviour], FleetError], kind: str, behaviour: Behaviour
) -> None:
    error = raised(behaviour)
    assert type(error) is KINDS[kind][1]
    assert kind in error.reason
    assert f"HTTP {behaviour.status}" in error.reason


@pytest.mark.parametrize(
    "words",
    [
        "model could not process the image: file not found",
        "the answer exceeded the thinking budget",
        "messages: roles must alternate",
    ],
)
def test_what_is_wrong_with_a_request_is_no_standing_fault(
    raised: Callable[[Behaviour], FleetError], words: str
) -> None:
    error = raised(told(words))
    assert (type(error), error.reason) == (NeverRetry, "")


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("Rate limit", 400, RateLimited),
        ("Provider is overloaded", 400, Unavailable),
        ("Flex capacity exceeded", 498, Unavailable),
    ],
)
def test_what_passes_is_known_whatever_its_status(
    raised: Callable[[Behaviour], FleetError], words: str, status: int, kind: type[FleetError]
) -> None:
    assert type(raised(told(words, status=status))) is kind


ONE_EACH = {kind: next(iter(faults.values())) for kind, (faults, _) in KINDS.items()}


@pytest.mark.parametrize(("kind", "behaviour"), ONE_EACH.items(), ids=[*ONE_EACH])
def test_a_standing_fault_goes_to_the_next_provider_and_is_left_alone_for_long(
    two: Callable[..., Run], kind: str, behaviour: Behaviour
) -> None:
    run = two()
    run.fake.script("small", behaviour)
    assert run.ask(times=2).model == "middle"
    assert run.fake.count("small") == 1
    name = "small" if kind in ("model", "parameter") else "fake"
    (found,) = left_alone(run).items()
    seconds, reason = found[1]
    assert (found[0], seconds) == (name, pytest.approx(HOUR, abs=5))
    assert kind in reason
    assert "HTTP 4" in reason
    step, other, _ = run.record.model_calls
    assert (step.cost_nanodollars, step.usage) == (0, "seen")
    assert other.why == f"failover: small: {reason}"


def test_the_next_task_does_not_ask_what_is_left_alone_and_says_why(
    two: Callable[..., Run],
) -> None:
    first = two()
    first.fake.script("small", CREDIT["DeepSeek's balance"])
    first.ask()
    second = two()
    assert second.ask().model == "middle"
    assert (second.fake.count("small"), second.fake.count("large")) == (1, 0)
    assert "a lack of credit or quota (HTTP 402" in json.dumps(second.record.model_decision)


def test_a_fault_that_was_not_the_keys_after_all_is_the_models(start: Callable[..., Run]) -> None:
    run = start()
    run.fake.script("small", KEY["a wrong key"])
    # All are of one key: another model of it is asked where there is no other.
    assert run.ask().model == "middle"
    assert {name: found[0] for name, found in left_alone(run).items()} == {
        "small": pytest.approx(HOUR, abs=5)
    }


def test_a_key_that_no_model_answers_with_stays_left_alone(start: Callable[..., Run]) -> None:
    run = start()
    for name in ("small", "middle", "large", "huge"):
        run.fake.script(name, KEY["a wrong key"])
    run.fails(NotAllowed, "small: the provider of small refused the key.*; huge: ")
    assert set(left_alone(run)) == {"fake"}


REQUESTS_FAULT = {
    "in words that nobody knows": told("messages: at least one is odd"),
    "for a parameter": PARAMETER["OpenAI's parameter"],
}


@pytest.mark.parametrize("behaviour", [*REQUESTS_FAULT.values()], ids=[*REQUESTS_FAULT])
def test_what_every_model_refuses_is_the_requests_fault(
    two: Callable[..., Run], behaviour: Behaviour
) -> None:
    run = two()
    for name in ("small", "middle", "large", "huge"):
        run.fake.script(name, behaviour)
    run.fails(NeverRetry, "no model takes the request: small: .*; middle: .*; large: .*; huge: ")
    assert left_alone(run) == {}
    assert {ended for *_, ended in run.told()} == {"rejected"}


def test_a_request_that_one_model_refuses_costs_that_model_seconds_not_hours(
    two: Callable[..., Run],
) -> None:
    run = two()
    run.fake.script("small", told("messages: at least one is odd"))
    assert run.ask().model == "middle"
    assert left_alone(run) == {"small": (pytest.approx(5, abs=2), "refusing what others take")}


@pytest.mark.parametrize("status", [403, 404])
def test_a_page_is_no_word_on_a_key_or_a_model(two: Callable[..., Run], status: int) -> None:
    run = two()
    page: Any = "<html>Request blocked</html>"
    run.fake.script("small", Behaviour(status, page))
    assert run.ask().model == "middle"
    assert set(left_alone(run)) == {"small"}
    assert left_alone(run)["small"][0] < HOUR / 2


def test_an_error_that_repeats_the_prompt_is_not_taken_at_its_word(two: Callable[..., Run]) -> None:
    run = two()
    echo = {"detail": [{"msg": "too odd", "input": "Insufficient Balance: invalid_api_key"}]}
    run.fake.script("small", Behaviour(422, echo))
    assert run.ask().model == "middle"
    assert set(left_alone(run)) == {"small"}


def test_beside_a_standing_fault_a_passing_one_lets_the_task_be_tried_again(
    two: Callable[..., Run],
) -> None:
    run = two()
    run.fake.script("small", KEY["a wrong key"])
    run.fake.script("large", KEY["a wrong key"])
    run.fake.script("middle", rate_limited(retry_after=60))
    run.fake.script("huge", broken(503, retry_after=70))
    error = run.fails(RateLimited, "small: .*refused the key.*; middle: .*429.*; huge: .*503")
    assert isinstance(error, RateLimited)
    assert error.retry_after == pytest.approx(60, abs=5)


def test_beside_a_standing_fault_what_cools_down_is_worth_coming_back_for(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.004)
    ((key_id,),) = {model.key_ids for model in run.fleet.models.catalogue}
    run.fleet.models.state.cool(key_id, "middle", "an outage", 60)
    run.fake.script("small", MODEL["a withdrawn model"])
    error = run.fails(
        Unavailable, "small: .*no such model.*; middle: cools down|middle: cools.*small"
    )
    assert isinstance(error, Unavailable)
    assert error.retry_after == pytest.approx(60, abs=5)


def test_a_standing_fault_is_asked_after_less_often_each_time(start: Callable[..., Run]) -> None:
    run = start()
    state = run.fleet.models.state
    assert state.cool_for_long("fake:1", WHOLE_KEY, "a refused key") == HOUR
    for hours in (2, 4, 6, 6):
        field = f"cool|fake:1|{WHOLE_KEY}"
        packed = state.client.hget("{fleet}:models", field).decode()
        _, rest = packed.split(",", 1)
        state.client.hset("{fleet}:models", field, f"1000,{rest}")
        assert state.cool_for_long("fake:1", WHOLE_KEY, "a refused key") == hours * HOUR


def test_a_shorter_cool_down_does_not_take_the_place_of_the_reason(
    start: Callable[..., Run],
) -> None:
    run = start()
    state = run.fleet.models.state
    state.cool_for_long("fake:1", "small", "a model that is not served")
    state.cool("fake:1", "small", "an outage", None)
    assert state.read().cooldowns["fake:1", "small"].reason == "a model that is not served"


def test_the_janitor_keeps_the_cool_down_of_a_key(start: Callable[..., Run]) -> None:
    run = start()
    state = run.fleet.models.state
    state.cool_for_long("fake:1", WHOLE_KEY, "a refused key")
    assert state.prune({"small"}, {"code_generation"}) == []


def shown(*arguments: str) -> str:
    """What a command of `fleet` says."""
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "240"})
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_show_why_a_model_is_left_alone_and_end_it(two: Callable[..., Run]) -> None:
    run = two()
    run.fake.script("small", CREDIT["Anthropic's credit"])
    run.ask()
    why = "a lack of credit or quota (HTTP 400,"
    reasons = [model["reason"] for model in json.loads(shown("models", "--json"))["models"]]
    assert len([each for each in reasons if each.startswith(why)]) == 2
    assert shown("models").count("cooling down for") == 2
    assert "a lack of credit or quota" in " ".join(shown("task", run.lease.task_id).split())
    other = two()
    assert "a lack of credit or quota" in " ".join(shown("explain", other.lease.task_id).split())
    ended = "large: cool-down ended; its cause was a lack"
    assert shown("models", "resume", "large").startswith(ended)
    assert shown("models", "resume", "large") == "large is not cooling down\n"
    assert json.loads(shown("models", "resume", "large", "--json")) == {
        "model": "large",
        "ended": [],
    }
    assert left_alone(run) == {}
    assert two().ask().model == "small"
