"""Budgets and rates in fleet.toml: what they may say, and what a mistake is told."""

from __future__ import annotations

import pytest

from fleet.errors import InvalidConfig
from fleet.settings import parse_config

ONE_MODEL = """
[catalogue.small]
provider = "local"
quality = 0.5
speed = 0.5
free = true
[catalogue.large]
provider = "local"
quality = 0.9
speed = 0.5
free = true
"""


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[budgets]\nhourly_usd = -1", "budgets.hourly_usd: Input should be greater than 0"),
        ("[budgets]\ndaily_usd = 1e9", "daily_usd: Input should be less than or equal to 9000000"),
        ("[budgets]\nhourly_tokens = 0", "hourly_tokens: Input should be greater than or equal"),
        ("[budgets]\nhourly_requests = 1.5", "hourly_requests: Input should be a valid integer"),
        ("[budgets]\nover = 'ask'", "over: Input should be 'downgrade', 'wait' or 'refuse'"),
        ("budgets = 3", "budgets: has to be a table, with a line [budgets] before its keys"),
        ("[budgets.scopes.acme]\ndaily_usd = 1", "'acme' is no scope; write tenant:NAME, agent_t"),
        ("[budgets.scopes.'team:a']\ndaily_usd = 1", "'team:a' is no scope; write tenant:NAME"),
        ("[budgets.scopes.'tenant:']\ndaily_usd = 1", "'tenant:' is no scope"),
        ("[budgets.scopes.'tenant: a']\ndaily_usd = 1", "no white space around it"),
        ("[budgets.scopes.all]\ndaily_usd = 1", "'all' needs no table of its own; write it one"),
        ("[rates.scopes.all]\nrequests = 1", "'all' needs no table of its own"),
        (
            "tenants = ['a']\n[budgets.scopes.'tenant:b']\ndaily_usd = 1",
            "budgets.scopes.\"tenant:b\": 'b' is not known; use one of: a, ",
        ),
        (
            "[rates.scopes.'agent_type:cook']\nrequests = 1",
            "rates.scopes.\"agent_type:cook\": 'cook' is not known; use one of: code_generator",
        ),
        ("[budgets.scopes.'model:gpt-9']\ndaily_usd = 1", "'gpt-9' is not known; use one of: cla"),
        ("[budgets.scopes.'tenant:a']\nrequests = 1", "requests: is not a known key"),
        ("[rates]\nhourly_usd = 1", "rates.hourly_usd: is not a known key"),
        ("[rates]\nconcurrent_tasks = 0", "concurrent_tasks: Input should be greater than or eq"),
        ("[[budgets.rules]]\nover = 'wait'", "name a request_type, a tenant or both; for all"),
        (
            "[[budgets.rules]]\nrequest_type = 'knit'\nover = 'wait'",
            "budgets.rules.0.request_type: 'knit' is not known",
        ),
        (
            "tenants = ['a']\n[[budgets.rules]]\ntenant = 'b'\nover = 'wait'",
            "budgets.rules.0.tenant: 'b' is not known; use one of: a",
        ),
        ("[budgets.downgrade]\nnearly = 1.2", "nearly: Input should be less than or equal to 1"),
        (
            "[budgets.downgrade.models]\n'gpt-5' = 'gpt-9'",
            "budgets.downgrade.models: 'gpt-9' is not known; use one of: claude",
        ),
        (
            "[budgets.downgrade.models]\n'gpt-5' = 'gpt-4o'\n'gpt-4o' = 'gpt-5'",
            "models goes in a circle: gpt-5 -> gpt-4o -> gpt-5; leave one of them out",
        ),
        ("[budgets.downgrade.models]\n'gpt-5' = 'gpt-5'", "circle: gpt-5 -> gpt-5"),
        ("[budgets]\ndowngrade = 3", "budgets.downgrade: Input should be"),
    ],
)
def test_a_mistake_is_told(toml: str, says: str) -> None:
    with pytest.raises(InvalidConfig) as told:
        parse_config(toml, "fleet.toml")
    assert says in str(told.value)


def test_only_the_dollars_of_a_day_and_a_month_are_limited_by_default() -> None:
    config = parse_config("", "defaults")
    assert config.budgets.model_dump(exclude_none=True) == {
        "daily_usd": 500,
        "monthly_usd": 15000,
        "over": "downgrade",
        "redis_away": "closed",
        "scopes": {},
        "rules": (),
        "downgrade": {
            "over_usd": 0.10,
            "nearly": 0.9,
            "models": {"gpt-5": "gpt-4o", "claude-opus-4-1": "claude-sonnet-4-5"},
        },
    }
    assert config.rates.model_dump(exclude_none=True) == {"scopes": {}}


def test_a_key_of_the_downgrade_leaves_the_others() -> None:
    found = parse_config("[budgets.downgrade]\nover_usd = 2", "fleet.toml").budgets.downgrade
    assert (found.over_usd, found.nearly) == (2, 0.9)
    assert found.models["gpt-5"] == "gpt-4o"
    none = parse_config("[budgets.downgrade]\nmodels = {}", "fleet.toml").budgets.downgrade
    assert none.models == {}


def test_the_usual_way_down_goes_where_its_models_are_gone() -> None:
    assert parse_config(ONE_MODEL, "fleet.toml").budgets.downgrade.models == {}
    own = f"{ONE_MODEL}\n[budgets.downgrade]\nmodels = {{ large = 'small' }}"
    assert parse_config(own, "fleet.toml").budgets.downgrade.models == {"large": "small"}


def test_the_reference_catalogue_has_its_way_down_and_any_model_may_be_named() -> None:
    reference = "[models]\ncatalogue = 'reference'\n"
    found = parse_config(reference, "fleet.toml").budgets.downgrade.models
    assert found["claude-opus-4.1"] == "claude-sonnet-3.5"
    scoped = f"{reference}[budgets.scopes.'model:claude-opus-4.1']\ndaily_usd = 1"
    assert "model:claude-opus-4.1" in parse_config(scoped, "fleet.toml").budgets.scopes


def test_an_hour_may_have_more_than_a_day_and_a_tenant_any_name() -> None:
    text = "[budgets.scopes.'tenant:Acme | Co']\nhourly_usd = 9\ndaily_usd = 1"
    budget = parse_config(text, "fleet.toml").budgets.scopes["tenant:Acme | Co"]
    assert (budget.hourly_usd, budget.daily_usd) == (9, 1)
