"""Which models there are to choose from, and what they cost."""

from __future__ import annotations

import pytest

from fleet.adapters.model_calls import Endpoint
from fleet.adapters.prices import price_per_thousand
from fleet.core.model_choice import REFERENCE_CATALOGUE, Model, Tokens, cost_nanodollars
from fleet.errors import InvalidConfig
from fleet.services.catalogue import catalogue
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment


def settings(toml: str = "") -> Settings:
    return Settings(Environment(), parse_config(toml, "fleet.toml"), "fleet.toml")


def test_without_a_key_the_local_model_is_all_there_is_and_costs_nothing() -> None:
    (model,) = catalogue(settings(), {})
    assert (model.provider, model.free) == ("local", True)
    assert cost_nanodollars(model, Tokens(10**6, 10**6)) == 0


def test_a_key_brings_its_providers_models_with_genai_prices() -> None:
    models = {model.name: model for model in catalogue(settings(), {"OPENAI_API_KEY": "sk"})}
    assert set(models) == {"gpt-5", "gpt-4o"}
    assert (models["gpt-4o"].input_price, models["gpt-4o"].output_price) == price_per_thousand(
        "openai", "gpt-4o"
    )


def test_a_price_in_the_configuration_wins() -> None:
    toml = """
    [catalogue.gpt-4o]
    provider = "openai"
    quality = 0.9
    speed = 0.9
    input_price = 0.5
    output_price = 1.5
    """
    (model,) = catalogue(settings(toml), {"OPENAI_API_KEY": "sk"})
    assert (model.input_price, model.output_price) == (0.5, 1.5)


def test_a_model_without_a_price_is_refused() -> None:
    toml = '[catalogue.mystery]\nprovider = "openai"\nquality = 0.9\nspeed = 0.9'
    with pytest.raises(InvalidConfig, match=r"mystery.*no price is known"):
        catalogue(settings(toml), {"OPENAI_API_KEY": "sk"})


def test_the_reference_catalogue_can_be_asked_for() -> None:
    assert catalogue(settings('[models]\ncatalogue = "reference"'), {}) == REFERENCE_CATALOGUE


def test_a_call_is_charged_by_its_tokens_in_nanodollars_rounded_up() -> None:
    # 3 tokens at $0.002 a thousand are 6,000 nano-dollars, 1 at $0.0000003 a thousand 0.3.
    model = Model("m", "p", 0.002, 0.0000003, 0.5, 0.5)
    assert cost_nanodollars(model, Tokens(3, 1)) == 6001


def test_an_endpoint_does_not_show_its_key() -> None:
    assert "secret" not in repr(Endpoint("http://x", "secret"))
