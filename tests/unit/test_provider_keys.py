"""Where the keys of providers are, who knows their values, and how calls are spread over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from stores_in_memory import MemoryStore

from fleet.errors import InvalidConfig, SecretsUnavailable
from fleet.models.catalogue import catalogue
from fleet.models.keys import ProviderKeys, UsedKey, key_id
from fleet.models.rules.key_choice import by_share
from fleet.models.rules.learning import WHOLE_KEY, CoolDown, ModelFacts
from fleet.secrets.secrets import Secrets
from fleet.settings import Settings, parse_config
from fleet.settings.environment import Environment

CATALOGUE = """
[catalogue.gpt-4o]
provider = "{provider}"
quality = 0.9
speed = 0.9
"""
PROVIDER = (
    CATALOGUE.format(provider="openai")
    + """
[providers.openai]
base_url = "https://api.openai.com/v1"
"""
)
SECRET = PROVIDER + 'secret = "providers/openai"\n'
POOL = (
    PROVIDER
    + """
[providers.openai.keys.main]
secret = "providers/openai"
share = 3

[providers.openai.keys.batch]
variable = "BATCH_KEY"
concurrency = 8
daily_usd = 12.5
"""
)


def settings(toml: str) -> Settings:
    return Settings(Environment(), parse_config(toml, "fleet.toml"), "fleet.toml")


def keys(toml: str, environment: Mapping[str, str] | None = None, **secrets: Any) -> ProviderKeys:
    return ProviderKeys(settings(toml).config.providers, environment or {}, **secrets)


def secrets_with(store: MemoryStore) -> Secrets:
    return Secrets([store], lambda path: None, 60.0, lambda: 0.0)


def test_a_key_in_a_secret_is_available_without_its_value() -> None:
    (key,) = keys(SECRET).of("openai")
    assert (key.id, key.name, key.secret) == ("openai:default", "default", "providers/openai")
    found = catalogue(settings(SECRET), keys(SECRET))
    assert [(model.absent, model.key_ids) for model in found] == [("", ("openai:default",))]


def test_a_key_in_a_variable_has_the_id_of_its_value_as_ever() -> None:
    toml = PROVIDER + 'key_variable = "OPENAI_API_KEY"\n'
    (key,) = keys(toml, {"OPENAI_API_KEY": " sk-1\n"}).of("openai")
    assert key.id == key_id("openai", "sk-1")
    with keys(toml, {"OPENAI_API_KEY": "sk-1"}).use(key) as used:
        assert (used.value, used.version) == ("sk-1", 0)
        assert "sk-1" not in repr(used)


def test_several_keys_have_their_own_bounds() -> None:
    main, batch = keys(POOL, {"BATCH_KEY": "sk-b"}).of("openai")
    assert (main.id, main.share, main.concurrency) == ("openai:main", 3.0, None)
    assert main.daily_nanodollars is None
    assert (batch.id, batch.concurrency) == (key_id("openai", "sk-b"), 8)
    assert batch.daily_nanodollars == 12_500_000_000


def test_a_key_without_its_variable_is_not_available_and_the_others_are() -> None:
    assert [key.name for key in keys(POOL).of("openai")] == ["main"]
    assert keys(PROVIDER + '[providers.openai.keys.a]\nvariable = "A"\n').of("openai") == ()


def test_a_model_without_any_key_says_which_variables_may_hold_one() -> None:
    two = '[providers.openai.keys.a]\nvariable = "A"\n[providers.openai.keys.b]\nvariable = "B"\n'
    with pytest.raises(InvalidConfig, match="no key: set A or B"):
        catalogue(settings(PROVIDER + two), keys(PROVIDER + two))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ('secret = "providers/openai"\nkey_variable = "A"', "set one of key_variable and secret"),
        ('secret = "providers/openai"\n[providers.openai.keys.a]\nvariable = "A"', "set one of"),
        ('secret = "Providers/OpenAI"', "providers.openai.secret"),
        ("[providers.openai.keys.a]", "set secret or variable"),
        ('[providers.openai.keys.a]\nvariable = "A"\nsecret = "a"', "set secret or variable"),
        ('[providers.openai.keys.a]\nvariable = "A"\nshare = 0', "share"),
        ('[providers.openai.keys.a]\nvariable = "A"\nconcurrency = 0', "concurrency"),
    ],
    ids=["two-places", "secret-and-pool", "no-path", "nowhere", "twice", "no-share", "no-calls"],
)
def test_a_table_that_does_not_say_where_the_key_is_gets_a_sentence(
    more: str, complaint: str
) -> None:
    with pytest.raises(InvalidConfig, match=complaint):
        settings(f"{PROVIDER}{more}\n")


def test_bedrock_has_no_secret() -> None:
    with pytest.raises(InvalidConfig, match="kind bedrock has no secret"):
        settings(
            CATALOGUE.format(provider="aws")
            + '[providers.aws]\nkind = "bedrock"\nsecret = "providers/aws"\n'
        )


def test_a_use_counts_until_its_end_and_the_next_one_has_the_new_version() -> None:
    store = MemoryStore({"providers/openai": [{"api_key": "sk-1"}]})
    secrets = secrets_with(store)
    found = keys(SECRET, secrets=secrets)
    (key,) = found.of("openai")
    with found.use(key) as first:
        assert secrets.in_use() == {("providers/openai", 1): 1}
        store.write("providers/openai", {"api_key": "sk-2"}, 1)
        found.forget(key)
        with found.use(key) as second:
            assert (first.value, second.value, second.version) == ("sk-1", "sk-2", 2)
    assert secrets.in_use() == {}


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"token": "x"}, "has no field api_key"),
        ({"api_key": " "}, "has no field api_key"),
        ({"api_key": "sk-SECRET\u00e9"}, "not printable ASCII"),
    ],
    ids=["other-field", "empty", "no-header-carries-it"],
)
def test_a_secret_that_holds_no_key_is_told_without_its_value(
    fields: dict[str, str], complaint: str
) -> None:
    found = keys(SECRET, secrets=secrets_with(MemoryStore({"providers/openai": [fields]})))
    with pytest.raises(InvalidConfig, match=complaint) as caught, found.use(found.of("openai")[0]):
        pytest.fail("no key can be used")
    assert "SECRET" not in str(caught.value)


def test_a_missing_secret_is_a_fault_of_the_configuration_and_an_absent_store_is_none() -> None:
    store = MemoryStore({})
    found = keys(SECRET, secrets=secrets_with(store))
    (key,) = found.of("openai")
    with pytest.raises(InvalidConfig, match="fleet secrets set providers/openai"), found.use(key):
        pytest.fail("no key can be used")
    store.away = True
    with pytest.raises(SecretsUnavailable), found.use(key):
        pytest.fail("no key can be used")


def test_a_newer_version_ends_the_cool_down_of_the_one_that_failed() -> None:
    store = MemoryStore({"providers/openai": [{"api_key": "sk-1"}]})
    found = keys(SECRET, secrets=secrets_with(store))
    (key,) = found.of("openai")
    cooling = {("openai:default", WHOLE_KEY): CoolDown(1e9, 1, "a refused key")}
    facts = ModelFacts(cooldowns=cooling, versions={"openai:default": 1})
    assert found.replaced(facts) == []
    store.write("providers/openai", {"api_key": "sk-2"}, 1)
    found.forget(key)
    assert found.replaced(facts) == [UsedKey("openai:default", 2)]
    assert found.replaced(ModelFacts()) == []


def test_a_model_is_ready_as_long_as_one_of_its_keys_is() -> None:
    cooldowns = {
        ("a", WHOLE_KEY): CoolDown(90.0, 1, "a refused key"),
        ("a", "gpt"): CoolDown(50.0, 1, "a rate limit"),
    }
    facts = ModelFacts(cooldowns=cooldowns)
    assert facts.cool_down(("a", "b"), "gpt") is None
    assert facts.cool_down((), "gpt") is None
    both = ModelFacts(cooldowns={**cooldowns, ("b", "gpt"): CoolDown(70.0, 1, "an outage")})
    found = both.cool_down(("a", "b"), "gpt")
    assert found is not None
    assert (found.until, found.reason) == (70.0, "an outage")


def test_calls_are_spread_by_the_shares() -> None:
    main, batch = keys(POOL, {"BATCH_KEY": "sk-b"}).of("openai")
    rng = Random(7)
    first = Counter(by_share([main, batch], rng)[0].name for _ in range(4000))
    assert 0.72 < first["main"] / 4000 < 0.78
    assert {key.name for key in by_share([main, batch], rng)} == {"main", "batch"}
