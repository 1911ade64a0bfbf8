"""Settings: what is read, what wins, and what a mistake is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from fleet.errors import InvalidConfig
from fleet.settings import load_settings, parse_config
from fleet.settings.environment import RUN_FILE

DEFAULTS = parse_config("", "built-in defaults")


def test_the_defaults_are_the_reference_figures() -> None:
    weights = DEFAULTS.routing.weights.model_dump()
    assert list(weights.values()) == [0.30, 0.25, 0.20, 0.15, 0.10]
    assert DEFAULTS.pools["codegen"].slots == 10
    assert (DEFAULTS.models.quality_priority, DEFAULTS.models.speed_priority) == (0.7, 0.3)
    assert DEFAULTS.leases.heartbeat_seconds == 5
    assert DEFAULTS.leases.dead_after_seconds == 30
    assert DEFAULTS.leases.reap_seconds == 10
    assert DEFAULTS.limits.model_call_seconds == 300
    assert (DEFAULTS.budgets.daily_usd, DEFAULTS.budgets.monthly_usd) == (500, 15000)
    assert DEFAULTS.compatibility["security_analysis"] == {
        "code_generator": 0.4,
        "security_scanner": 1.0,
        "performance_tester": 0.1,
    }

PROVIDER = "[providers.x]\nbase_url = 'http://127.0.0.1:1/v1'\nkey_variable = 'X'"
LONE = "[catalogue.m]\nprovider = 'local'\nquality = 1\nspeed = 1"
NEEDY = f"""
[request_types.look]
agent_type = "code_generator"
needs = ["tools", "vision"]
{LONE}
capabilities = ["tools"]
"""

TYPE = "[request_types.a]\nagent_type = 'code_generator'\n"
MIXED = f"{TYPE}quality_priority = 0.6\n[models.tenants.b]\n"


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("strategy = 'No Name'", "strategy: String should match pattern"),
        ("[[routing.rules]]\nstrategy = 'soonest'", "name a request_type, a tenant or both"),
        (
            "[[routing.rules]]\nrequest_type = 'x'\nstrategy = 'soonest'",
            "routing.rules.0.request_type: 'x' is not known",
        ),
        ("[health]\nmost_eject_seconds = 1", "is under eject_seconds .30.; raise it"),
        (
            "[pools.a]\nagent_type = 'performance_tester'\nhelps = ['security_scanner']",
            "suits the requests for security_scanner with 0.1 only, under routing.helper_floor",
        ),
        ("pools = 3", "pools: has to be a table, with a line"),
        ("[pools.a]\nagent_type = 'x'", "pools.a.agent_type: 'x' is not known; use one of: code_"),
        ("[pools.a]\nagent_type = 'code_generator'\nslot = 3", "pools.a.slot: is not a known key"),
        ("[pools.a]\nagent_type = 'code_generator'\nweight = 11", "less than or equal to 10"),
        ("[pools.a]\nagent_type = 'code_generator'\nmin = 9", r"min \(9\) is over max \(4\)"),
        ("[pools.a]\nagent_type = 'code_generator'\nhelps = ['y']", "pools.a.helps: 'y' is not kn"),
        ("[leases]\ndead_after_seconds = 8", r"at least twice heartbeat_seconds \(5\)"),
        ("[models]\nquality_priority = 0.9", "together they may be at most 1"),
        ("[models.tenants.acme]\nquality_priority = 0.9", r"models.tenants.acme: .* is 1.2 with"),
        ("[models.tenants.acme]\nspeed_priority = 2", "models.tenants.acme.speed_priority: Input"),
        (f"{TYPE}quality_priority = 0.8", "request_types.a: quality_priority . speed_p"),
        (f"{MIXED}speed_priority = 0.5", "request_types.a and models.tenants.b: .* is 1.1 with"),
        ("tenants = ['a']\n[models.tenants.b]\nspeed_priority = 0", "models.tenants.b: .b. is not"),
        ("[catalogue.m]\nprovider = 'who'\nquality = 1\nspeed = 1", "'who' is not known"),
        ("[models]\nquality_floor = 0.99", r"quality_floor: 0.99 is over .* at most 0.95; lower"),
        ("[models]\nprior_strength = 0", "prior_strength: Input should be greater than 0"),
        ("[models]\npolicy = 'greedy'", "policy: Input should be 'mean' or 'thompson'"),
        ("[models]\nregions = ['eu']", "no model is in 'eu'; regions of the catalogue: local"),
        (NEEDY, "request_types.look.needs: no model of the catalogue is capable of tools and vis"),
        (f"{LONE}\ncapabilities = ['song']", "capabilities.0: Input should be 'tools'"),
        (f"{LONE}\ncached_input_price = 1", "cached_input_price needs input_price and output_pr"),
        (f"{LONE}\ncache_write_price = 1", "cache_write_price needs input_price and output_pr"),
        (f"{LONE}\ninput_price = 1\noutput_price = 1\nfree = true", "free is set, and so is in"),
        (f"tenants = ['a']\n{LONE}\ntenants = ['b']", "'b' is not known; use one of: a"),
        ("[compatibility.knitting]\ncode_generator = 1", "'knitting' is not known"),
        (f"{PROVIDER}\nlimit_field = 'max_output'", "providers.x.limit_field: Input should be"),
        (f"{PROVIDER}\ntemperature = 'none'", "providers.x.temperature: Input should be a valid b"),
        (
            f"{PROVIDER}\nstream = false\nstream_usage = false",
            "stream_usage is for streams, and stream is false; remove one of them",
        ),
        (
            "[providers.x]\nkind = 'groq'\nkey_variable = 'X'\nlimit_field = 'none'",
            "limit_field is for kind openai, and this is groq, whose client knows its fields",
        ),
        ("[budgets]\ndaily_usd = 0", "budgets.daily_usd: Input should be greater than 0"),
        ("[budgets]\nyearly_usd = 1", "budgets.yearly_usd: is not a known key"),
        ("x = [", "is not valid TOML"),
    ],
)
def test_a_mistake_names_the_file_the_key_and_what_is_allowed(toml: str, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says) as told:
        parse_config(toml, "fleet.toml")
    assert str(told.value).startswith("fleet.toml: ")


def test_two_pools_may_not_share_a_queue() -> None:
    pool = "[pools.{}]\nagent_type = 'code_generator'\nqueue = '{{fleet}}.same'\n"
    with pytest.raises(InvalidConfig, match="the queue of pool a already"):
        parse_config(pool.format("a") + pool.format("b"), "fleet.toml")


def test_a_queue_outside_the_fleets_hash_tag_is_refused(
    clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "[pools.a]\nagent_type = 'code_generator'\nqueue = 'mine'"
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(InvalidConfig, match=r"pools.a.queue: 'mine' must start with '\{fleet\}.'"):
        load_settings()


def test_a_key_of_a_section_keeps_the_others_and_a_table_of_names_is_replaced() -> None:
    config = parse_config(
        "[leases]\nreap_seconds = 5\n[budgets]\ndaily_usd = 7\n"
        "[pools.only]\nagent_type = 'code_generator'",
        "fleet.toml",
    )
    assert (config.leases.reap_seconds, config.leases.heartbeat_seconds) == (5, 5)
    assert (config.budgets.daily_usd, config.budgets.monthly_usd) == (7, 15000)
    assert list(config.pools) == ["only"]


def test_the_compatibility_of_types_that_are_gone_goes_with_them() -> None:
    text = """
    [agent_types.code_generator]
    [pools.only]
    agent_type = "code_generator"
    [request_types.code_generation]
    agent_type = "code_generator"
    """
    assert parse_config(text, "fleet.toml").compatibility == {
        "code_generation": {"code_generator": 1.0}
    }


def test_a_named_config_file_that_is_missing_is_an_error(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("FLEET_CONFIG", "nowhere.toml")
    with pytest.raises(InvalidConfig, match=r"there is no file nowhere\.toml"):
        load_settings()


def test_a_bad_variable_is_named_and_its_value_is_not_shown(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("FLEET_BROKER_URL", "kafka://user:hunter2@host")
    says = r"FLEET_BROKER_URL: .*must start with one of redis://"
    with pytest.raises(InvalidConfig, match=says) as told:
        load_settings()
    assert "hunter2" not in str(told.value)


def test_a_running_fleet_in_this_folder_is_found(
    clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".fleet").mkdir()
    found = {
        "broker_url": "redis://:pw@127.0.0.1:7001/0",
        "model_url": "http://127.0.0.1:7002/v1",
        "model_key": "the key",
    }
    (tmp_path / ".fleet" / RUN_FILE).write_text(json.dumps(found))
    settings = load_settings()
    assert settings.broker_url == found["broker_url"]
    assert settings.environment.model_url == found["model_url"]
    assert settings.environment.model_key == SecretStr("the key")
    assert "pw" not in repr(settings)
    assert "the key" not in repr(settings)


def test_the_environment_wins_over_a_running_fleet(
    clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".fleet").mkdir()
    (tmp_path / ".fleet" / RUN_FILE).write_text('{"broker_url": "redis://other"}')
    clean_environment.setenv("FLEET_BROKER_URL", "redis://mine:1/2")
    assert load_settings().broker_url == "redis://mine:1/2"


def test_a_pool_that_is_silent_on_its_queue_gets_one_of_its_name(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("FLEET_NAMESPACE", "east")
    settings = load_settings()
    assert settings.queue("codegen") == "{east}.codegen"
    assert settings.overflow_queue("code_generator") == "{east}.overflow.code_generator"


POOL = 'agent_type = "code_generator"'


@pytest.mark.parametrize(
    ("toml", "owner"),
    [
        (f"[pools.jobs]\n{POOL}", "the fleet itself"),
        (f'[pools.a]\n{POOL}\nqueue = "{{fleet}}.jobs"', "the fleet itself"),
        (f'[pools.a]\n{POOL}\nqueue = "{{fleet}}.overflow.code_generator"', "the fleet itself"),
        (f'[pools.a]\n{POOL}\nqueue = "{{fleet}}.b"\n[pools.b]\n{POOL}', "pool a"),
        (f'[pools.b]\n{POOL}\n[pools.a]\n{POOL}\nqueue = "{{fleet}}.b"', "pool b"),
    ],
)
def test_no_pool_has_the_queue_of_another_or_of_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str, owner: str
) -> None:
    (tmp_path / "fleet.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidConfig, match=f"is that of {owner}; give the pool another name"):
        load_settings()


@pytest.mark.parametrize("value", ["inf", "nan", "1e308"])
@pytest.mark.parametrize("key", ["leases.lease_seconds", "limits.task_seconds"])
def test_a_number_that_is_no_length_of_time_is_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=key):
        parse_config(f"{key} = {value}", "fleet.toml")
