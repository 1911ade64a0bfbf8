"""Which models there are to choose from, and what they cost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet.agent import installed_agents
from fleet.cli.configuration import models_counted
from fleet.errors import InvalidConfig, InvalidRequest, NotAllowed
from fleet.models.calls.endpoint import Endpoint
from fleet.models.catalogue import catalogue as catalogue_of
from fleet.models.keys import ProviderKeys, key_id
from fleet.models.prices import installed_prices
from fleet.models.rules.choice import REFERENCE_CATALOGUE, Model, Price, Tokens, cost_nanodollars
from fleet.models.rules.decision import ModelDecision
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment
from fleet.tasks.submission.model_planning import (
    base_tokens,
    check_model_tasks,
    model_policy,
    stored_plan,
)
from fleet.tasks.submission.model_planning import choose_model as choose_of

OPENAI = {"OPENAI_API_KEY": "sk-secret"}
MODEL = """
[catalogue.gpt-4o]
provider = "openai"
quality = 0.9
speed = 0.9
"""


def settings(toml: str = "", **environment: Any) -> Settings:
    return Settings(Environment(**environment), parse_config(toml, "fleet.toml"), "fleet.toml")


def catalogue(found: Settings, environment: dict[str, str], **more: Any) -> tuple[Model, ...]:
    return catalogue_of(found, ProviderKeys(found.config.providers, environment), **more)


def choose_model(*asked: Any, **more: Any) -> ModelDecision:
    return choose_of(*asked, base=Tokens(500, 2000), **more)


def ready(models: tuple[Model, ...]) -> list[str]:
    return [model.name for model in models if not model.absent]


def test_without_a_key_the_local_model_is_all_that_can_be_had_and_costs_nothing() -> None:
    models = catalogue(settings(), {})
    (model,) = [each for each in models if not each.absent]
    assert (model.provider, model.free, model.key_ids) == ("local", True, ())
    assert cost_nanodollars(model, Tokens(10**6, 10**6)) == 0
    assert choose_model(settings().config, models, "code_generation", 0.5).model == model.name


def test_a_model_that_cannot_be_had_says_what_to_set() -> None:
    absent = {model.name: model.absent for model in catalogue(settings(), OPENAI)}
    assert absent["gpt-5"] == ""
    assert absent["claude-opus-4-1"] == "no key: set ANTHROPIC_API_KEY"
    assert absent["smollm2-135m-instruct"] == "not served: set FLEET_MODEL_URL"


def test_a_local_model_that_is_served_is_a_candidate_beside_the_hosted() -> None:
    models = catalogue(settings(model_url="http://127.0.0.1:1/v1"), OPENAI)
    assert ready(models) == ["gpt-5", "gpt-4o", "smollm2-135m-instruct"]
    assert choose_model(settings().config, models, "code_generation", 0.5).model == "gpt-5"


def test_a_key_brings_its_providers_models_with_genai_prices_and_windows() -> None:
    models = {model.name: model for model in catalogue(settings(), OPENAI)}
    listed = installed_prices().find("openai", "gpt-4o", datetime.now(UTC))
    assert models["gpt-4o"].price == listed.price is not None
    assert models["gpt-4o"].context_tokens == listed.context_tokens is not None


def test_models_that_cannot_be_had_are_priced_for_who_asks() -> None:
    models = catalogue(settings(), {}, price_all=True)
    assert all(model.price or model.free for model in models)


def test_a_contract_price_and_a_configured_window_win() -> None:
    toml = (
        MODEL
        + """
    input_price = 0.5
    output_price = 1.5
    cached_input_price = 0.25
    cache_write_price = 0.625
    context_tokens = 7
    """
    )
    (model,) = catalogue(settings(toml), OPENAI)
    assert model.price == Price.per_thousand(0.5, 1.5, 0.25, 0.625)
    assert model.context_tokens == 7


def test_a_model_says_what_it_can_where_it_is_and_who_may_use_it() -> None:
    toml = (
        "tenants = ['acme', 'other']\n"
        + MODEL
        + """
    capabilities = ["tools", "vision"]
    region = "eu"
    tenants = ["acme"]
    """
    )
    config = settings(toml).config
    models = catalogue(settings(toml), OPENAI)
    assert models[0].capabilities == {"tools", "vision"}
    assert models[0].region == "eu"
    assert choose_model(config, models, "code_generation", 0.5, tenant="acme").model == "gpt-4o"
    with pytest.raises(NotAllowed, match=r"of tenant other: .*gpt-4o: is for other tenants only"):
        choose_model(config, models, "code_generation", 0.5, tenant="other")


def test_what_a_request_type_needs_and_where_it_may_run_are_configured() -> None:
    toml = (
        MODEL
        + """
    capabilities = ["tools"]
    region = "eu"
    [models]
    regions = ["eu"]
    quality_floor = 0.5
    prior_strength = 3
    [request_types.code_generation]
    agent_type = "code_generator"
    needs = ["tools"]
    """
    )
    config = settings(toml).config
    models = catalogue(settings(toml), OPENAI)
    assert choose_model(config, models, "code_generation", 0.5).model == "gpt-4o"
    assert (model_policy(config).quality_floor, model_policy(config).prior_strength) == (0.5, 3)
    bare = (replace(models[0], capabilities=frozenset()),)
    with pytest.raises(InvalidRequest, match="gpt-4o: lacks tools"):
        choose_model(config, bare, "code_generation", 0.5)
    with pytest.raises(InvalidRequest, match="gpt-4o: is in us; allowed are eu"):
        choose_model(config, (replace(models[0], region="us"),), "code_generation", 0.5)


def test_a_pinned_model_has_to_pass_the_filters_too() -> None:
    models = catalogue(settings(), OPENAI)
    with pytest.raises(InvalidRequest, match="claude-opus-4-1: no key: set ANTHROPIC_API_KEY"):
        choose_model(settings().config, models, "code_generation", 0.5, only="claude-opus-4-1")


def test_the_policy_thompson_needs_no_dice_from_its_caller() -> None:
    config = settings("[models]\npolicy = 'thompson'").config
    assert choose_model(config, catalogue(settings(), {}), "code_generation", 0.5).policy


def test_a_stored_plan_holds_the_limit() -> None:
    models = catalogue(settings(), OPENAI)
    decision = choose_model(settings().config, models, "code_generation", 0.5, None, 250_000_000)
    stored = stored_plan("code_generation", "code_generator", 0.5, decision, None)
    assert json.loads(stored)["limit_nanodollars"] == 250_000_000


def test_a_model_without_a_price_is_refused() -> None:
    toml = '[catalogue.mystery]\nprovider = "openai"\nquality = 0.9\nspeed = 0.9'
    with pytest.raises(InvalidConfig, match=r"mystery.*its price is unknown"):
        catalogue(settings(toml), OPENAI)


def test_a_catalogue_of_which_nothing_can_be_had_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"no model is available.*no key: set OPENAI_API"):
        catalogue(settings(MODEL), {})


def test_the_id_of_a_key_is_its_own_and_does_not_tell_it() -> None:
    ids = {key_id("openai", "sk-secret"), key_id("openai", "sk-other"), key_id("x", "sk-secret")}
    assert len(ids) == 3
    models = catalogue(settings(), OPENAI)
    assert models[0].key_ids[0] in ids
    assert "secret" not in repr(models)


def test_the_reference_catalogue_can_be_asked_for() -> None:
    assert catalogue(settings('[models]\ncatalogue = "reference"'), {}) == REFERENCE_CATALOGUE


def test_a_call_is_charged_by_its_tokens_in_nanodollars_rounded_up() -> None:
    # 3 tokens at $0.002 a thousand are 6,000 nano-dollars, 1 at $0.0000003 a thousand 0.3.
    model = Model("m", "p", Price.per_thousand(0.002, 0.0000003), 0.5, 0.5)
    assert cost_nanodollars(model, Tokens(3, 1)) == 6001


def test_an_endpoint_does_not_show_its_key() -> None:
    assert "secret" not in repr(Endpoint("http://x", "secret"))


def test_the_check_of_a_configuration_counts_the_models_of_the_catalogue_in_force() -> None:
    reference = catalogue(settings('[models]\ncatalogue = "reference"'), {})
    assert models_counted(reference, "reference") == "5 models in the reference catalogue"
    configured = catalogue(settings(), OPENAI)
    here = "6 models in the configured catalogue, 2 of them usable here"
    assert models_counted(configured, "configured") == here


@pytest.mark.parametrize(
    ("request_type", "base"),
    [
        ("code_generation", (500, 2000)),
        ("security_analysis", (1000, 1500)),
        ("performance_test", (800, 1200)),
        ("poetry", (300, 800)),
    ],
)
def test_a_request_types_base_tokens_are_its_agents(
    request_type: str, base: tuple[int, int]
) -> None:
    assert base_tokens(settings().config, installed_agents(), request_type)[:2] == base


def poetry_as(task: str) -> Settings:
    return settings(f'[request_types.poetry]\nagent_type = "code_generator"\nmodel_task = "{task}"')


@pytest.mark.parametrize(
    ("task", "base"), [("performance_testing", (800, 1200)), ("general", (300, 800))]
)
def test_a_model_task_goes_before_the_agents_own_estimate(task: str, base: tuple[int, int]) -> None:
    poetry, agents = poetry_as(task), installed_agents()
    check_model_tasks(poetry, agents)
    assert base_tokens(poetry.config, agents, "poetry")[:2] == base


def test_a_model_task_that_no_agent_announces_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidConfig) as refused:
        check_model_tasks(poetry_as("haiku"), installed_agents())
    assert "request_types.poetry.model_task: no model task is called 'haiku'" in str(refused.value)
    assert "general" in str(refused.value)
