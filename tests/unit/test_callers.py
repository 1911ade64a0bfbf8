"""Which models a process can call, and with what."""

from __future__ import annotations

import traceback
from random import Random
from typing import Any

import pytest

from fleet.errors import InvalidConfig
from fleet.local.stack import needs
from fleet.models.callers import ModelCallers
from fleet.models.catalogue import catalogue as catalogue_of
from fleet.models.keys import ProviderKeys
from fleet.models.rules.catalogue import Model
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment

PROVIDERS = """
[providers.mine]
base_url = "http://127.0.0.1:9/v1"
key_variable = "MY_KEY"

[providers.claude]
kind = "anthropic"
key_variable = "ANTHROPIC_API_KEY"

[providers.aws]
kind = "bedrock"
region = "eu-central-1"

[catalogue.own]
provider = "mine"
quality = 0.5
speed = 0.5
free = true

[catalogue.claude-sonnet-4-6]
provider = "claude"
quality = 0.9
speed = 0.5

[catalogue."amazon.nova-lite-v1:0"]
provider = "aws"
quality = 0.6
speed = 0.9

[catalogue.small]
provider = "local"
quality = 0.3
speed = 0.5
free = true
"""


def settings(toml: str = PROVIDERS, **environment: Any) -> Settings:
    return Settings(Environment(**environment), parse_config(toml, "fleet.toml"), "fleet.toml")


def keys_of(found: Settings, environment: dict[str, str]) -> ProviderKeys:
    return ProviderKeys(found.config.providers, environment)


def catalogue(found: Settings, environment: dict[str, str]) -> tuple[Model, ...]:
    return catalogue_of(found, keys_of(found, environment))


def callers_of(found: Settings, environment: dict[str, str]) -> ModelCallers:
    keys = keys_of(found, environment)
    return ModelCallers(found, catalogue(found, environment), keys, Random(1))


def callable_models(environment: dict[str, str], **own: Any) -> list[str]:
    return list(callers_of(settings(**own), environment))


def test_a_model_can_be_called_where_its_providers_key_is_set() -> None:
    assert callable_models({"MY_KEY": "k"}) == ["own"]
    assert callable_models({"ANTHROPIC_API_KEY": "k"}) == ["claude-sonnet-4-6"]
    assert callable_models({"AWS_PROFILE": "work"}) == ["amazon.nova-lite-v1:0"]
    assert callable_models({}, model_url="http://127.0.0.1:8/v1") == ["small"]


def test_a_caller_is_made_when_it_is_first_asked_for_and_then_kept() -> None:
    callers = callers_of(settings(), {"MY_KEY": "k"})
    (key,) = callers.keys_of("own")
    assert callers.caller("own", key) is callers.caller("own", key)
    assert "claude-sonnet-4-6" not in callers


def test_answers_are_streamed_where_a_closed_stream_ends_the_bill_or_as_it_is_set() -> None:
    environment = {"MY_KEY": "k", "ANTHROPIC_API_KEY": "k", "AWS_PROFILE": "work"}

    def streams(toml: str) -> dict[str, bool]:
        callers = callers_of(settings(toml), environment)
        return {name: callers.caller(name, callers.keys_of(name)[0]).streams for name in callers}

    kinds = {"own": True, "claude-sonnet-4-6": True, "amazon.nova-lite-v1:0": False}
    assert streams(PROVIDERS) == kinds
    turned = PROVIDERS.replace('key_variable = "MY_KEY"', 'key_variable = "MY_KEY"\nstream = false')
    turned = turned.replace('region = "eu-central-1"', 'region = "eu-central-1"\nstream = true')
    assert streams(turned) == {**kinds, "own": False, "amazon.nova-lite-v1:0": True}


@pytest.mark.parametrize(
    ("table", "streams"),
    [
        ('base_url = "https://api.openai.com/v1"', True),
        ('base_url = "https://eu.api.openai.com/v1"', True),
        ('base_url = "https://api.anthropic.com/v1"', True),
        ('kind = "anthropic"', True),
        ('base_url = "http://localhost:8000/v1"', True),
        ('base_url = "http://[::1]:8000/v1"', True),
        ('base_url = "https://router.example/v1"', False),
        ('base_url = "https://router.example/api.openai.com"', False),
        ('base_url = "https://myapi.openai.com.example/v1"', False),
        ('base_url = "http://10.0.0.7:8000/v1"', False),
        ('base_url = "http://10.0.0.7:8000/v1"\nstream = true', True),
        ('kind = "anthropic"\nbase_url = "https://router.example"', False),
        ('kind = "mistral"\nbase_url = "http://127.0.0.1:8000"', False),
    ],
)
def test_answers_are_streamed_unasked_only_by_those_that_are_known_to_stop(
    table: str, streams: bool
) -> None:
    toml = f'{PROVIDERS}\n[providers.odd]\nkey_variable = "MY_KEY"\n{table}\n'
    assert settings(toml).config.providers["odd"].streams is streams


def test_the_default_providers_stream_but_google() -> None:
    found = settings("").config.providers
    assert {name: each.streams for name, each in found.items()} == {
        "openai": True,
        "anthropic": True,
        "google": False,
    }


def test_white_space_around_a_key_is_no_part_of_it() -> None:
    keys = keys_of(settings(), {"MY_KEY": " sk-1\n"})
    with keys.use(keys.of("mine")[0]) as key:
        assert key.value == "sk-1"
    assert keys_of(settings(), {"MY_KEY": " \n"}).of("mine") == ()


@pytest.mark.parametrize("key", ["sk-SECRET\u00e9", "sk-SECRET\nmore", "\u201csk-SECRET\u201d"])
def test_a_key_that_no_header_can_carry_is_refused_by_its_variables_name(key: str) -> None:
    with pytest.raises(InvalidConfig, match="MY_KEY: the key holds characters") as caught:
        callable_models({"MY_KEY": key})
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


def test_a_model_of_a_provider_that_is_not_configured_cannot_be_called() -> None:
    strange = Model("m", "nobody", None, 0.5, 0.5)
    assert len(ModelCallers(settings(), [strange], keys_of(settings(), {}), Random(1))) == 0


def test_the_catalogue_knows_bedrocks_credentials_by_awss_variables() -> None:
    models = {model.name: model for model in catalogue(settings(), {"MY_KEY": "k"})}
    nova = models["amazon.nova-lite-v1:0"]
    assert nova.absent.startswith("no key: set AWS_BEARER_TOKEN_BEDROCK or AWS_ACCESS_KEY_ID")
    assert nova.key_ids == ()
    first, second = (
        {model.name: model for model in catalogue(settings(), {"AWS_ACCESS_KEY_ID": key})}
        for key in ("AKIA1", "AKIA2")
    )
    assert not first[nova.name].absent
    assert first[nova.name].key_ids != second[nova.name].key_ids


def test_a_makers_prices_hold_whatever_its_table_is_called() -> None:
    environment = {"ANTHROPIC_API_KEY": "k", "AWS_PROFILE": "work"}
    models = {model.name: model for model in catalogue(settings(), environment)}
    assert models["claude-sonnet-4-6"].price is not None
    assert models["amazon.nova-lite-v1:0"].price is not None


def test_no_local_model_is_needed_beside_bedrock() -> None:
    assert needs(settings(), keys_of(settings(), {})).model
    assert not needs(settings(), keys_of(settings(), {"AWS_PROFILE": "work"})).model


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('key_variable = "MY_KEY"', "kind openai needs base_url"),
        ('base_url = "https://x/v1"', "set key_variable"),
        ('kind = "groq"', "set key_variable"),
        ('kind = "bedrock"\nkey_variable = "MY_KEY"', "kind bedrock has no key_variable"),
        ('kind = "mistral"\nkey_variable = "MY_KEY"\nregion = "eu"', "region is for kind bedrock"),
        ('kind = "cohere"\nkey_variable = "MY_KEY"', "providers.odd.kind"),
        ('base_url = "http://:80/v1"\nkey_variable = "MY_KEY"', "base_url needs a host"),
        ('base_url = "http://[::1/v1"\nkey_variable = "MY_KEY"', "providers.odd.base_url"),
        ('base_url = "ftp://x"\nkey_variable = "MY_KEY"', "providers.odd.base_url"),
    ],
)
def test_a_provider_that_cannot_work_is_refused(table: str, complaint: str) -> None:
    with pytest.raises(InvalidConfig, match=complaint):
        settings(f"{PROVIDERS}\n[providers.odd]\n{table}\n")
