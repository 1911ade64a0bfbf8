"""What of the money is in force: the configuration, and what was set over it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.budgets.controls import CONFIGURED, Controls, configured_limits
from fleet.budgets.rules.limits import MOST, QUANTITIES, WINDOWS
from fleet.policy.rules import Emergency, LimitKey
from fleet.policy.store import Policy, Scope
from fleet.settings import parse_config
from fleet.settings.budgets import Budget, Rate

# Tasks are counted at once, all else in windows of time.
PAIRS = [(w, q) for w in WINDOWS for q in QUANTITIES if (w == "now") == (q == "tasks")]
CONFIG = parse_config(
    """
    [budgets]
    daily_usd = 12.5
    task_usd = 0.25
    over = "wait"
    [budgets.scopes."tenant:acme"]
    hourly_usd = 0.1
    monthly_tokens = 5
    [budgets.scopes."model:*"]
    daily_requests = 9
    [[budgets.rules]]
    tenant = "ruled"
    over = "refuse"
    [[budgets.rules]]
    request_type = "code_generation"
    over = "downgrade"
    [rates]
    requests = 1000
    [rates.scopes."tenant:*"]
    usd = 100.0
    concurrent_tasks = 3
    """,
    "fleet.toml",
)
DAILY = LimitKey("all", "day", "dollars")
HOURLY = LimitKey("tenant:acme", "hour", "dollars")
EACH_NOW = LimitKey("tenant:*", "now", "tasks")

keys = st.builds(
    lambda scope, pair: LimitKey(scope, *pair),
    st.sampled_from(["all", "tenant:acme", "tenant:*", "tenant:other", "model:*"]),
    st.sampled_from(PAIRS),
)


def test_every_key_of_the_configuration_limits_something_of_its_own() -> None:
    assert set(CONFIGURED) == {*Budget.model_fields, *Rate.model_fields}
    assert sorted(CONFIGURED.values()) == sorted(PAIRS)


def test_without_a_change_the_configuration_holds() -> None:
    controls = Controls(CONFIG, Policy())
    assert controls.limits.packed("all") == "d1=12500000000;m1=15000000000000;r3=1000"
    assert controls.limits.packed("tenant:acme") == "h1=100000000;m2=5;r1=100000000000;c4=3"
    assert controls.limits.packed("tenant:other") == "r1=100000000000;c4=3"
    assert controls.limits.packed("model:gpt-5") == "d3=9"
    assert controls.limits.packed("agent_type:code_generator") == ""
    assert controls.task_nanodollars == 250_000_000
    assert controls.emergency is None
    assert controls.special_tenants == {"acme", "ruled"}


def test_the_defaults_hold_five_hundred_dollars_a_day() -> None:
    controls = Controls(parse_config("", "defaults"), Policy())
    assert controls.limits.packed("all") == "d1=500000000000;m1=15000000000000"
    assert controls.limits.packed("tenant:acme") == ""
    assert controls.task_nanodollars is None
    assert controls.over("code_generation", "acme") == "downgrade"
    assert (controls.downgrade.over, controls.downgrade.nearly) == (100_000_000, 0.9)
    assert controls.downgrade.models["gpt-5"] == "gpt-4o"


def test_what_is_set_goes_before_what_is_configured_and_may_lift_it() -> None:
    policy = Policy(limits={DAILY: 7, HOURLY: None, LimitKey("tenant:new", "hour", "tokens"): 1})
    controls = Controls(CONFIG, policy)
    assert controls.limits.packed("all") == "d1=7;m1=15000000000000;r3=1000"
    assert controls.limits.packed("tenant:acme") == "m2=5;r1=100000000000;c4=3"
    assert controls.special_tenants == {"acme", "ruled", "new"}
    said = {each.key: (each.most, each.origin) for each in controls.in_force()}
    assert said[DAILY] == (7, "set")
    assert said[HOURLY] == (None, "set")
    assert said[EACH_NOW] == (3, "configured")
    assert [each.key.scope for each in controls.in_force()][:3] == ["all"] * 3


@given(st.dictionaries(keys, st.none() | st.integers(1, MOST)))
def test_each_limit_in_force_is_the_one_set_or_else_the_one_configured(
    changed: dict[LimitKey, int | None],
) -> None:
    controls = Controls(CONFIG, Policy(limits=changed))
    configured = configured_limits(CONFIG)
    found = {each.key: each for each in controls.in_force()}
    assert set(found) == {*changed, *configured}
    for key, limit in found.items():
        said = "set" if key in changed else "configured"
        assert (limit.most, limit.origin) == (
            (changed if key in changed else configured)[key],
            said,
        )
        own = [each.most for each in controls.limits.of(key.scope) if each[:2] == key[1:]]
        assert own == ([] if limit.most is None else [limit.most])


def test_the_narrowest_rule_holds() -> None:
    overs = {
        Scope("code_generation", "ruled"): "downgrade",
        Scope("security_analysis", ""): "refuse",
    }
    controls = Controls(CONFIG, Policy(overs=overs))
    assert controls.over("performance_test", "other") == "wait"
    assert controls.over("code_generation", "other") == "downgrade"
    assert controls.over("security_analysis", "other") == "refuse"
    assert controls.over("security_analysis", "ruled") == "refuse"
    assert controls.over("code_generation", "ruled") == "downgrade"


def test_who_passes_in_an_emergency_is_special() -> None:
    emergency = Emergency("ops", "runaway loop", 1.0, frozenset({"vip"}))
    assert Controls(CONFIG, Policy(emergency=emergency)).special_tenants >= {"vip", "acme"}
