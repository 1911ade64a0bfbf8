"""Limits: what holds for a scope, and the form that the scripts read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.budgets.rules.limits import (
    MOST,
    QUANTITIES,
    WINDOWS,
    Limit,
    Limits,
    each_of,
    pack,
    unpack,
)
from fleet.policy.rules import Emergency, LimitKey
from fleet.settings.names import ALL

# Tasks are counted at once, all else in windows of time.
PAIRS = [(w, q) for w in WINDOWS for q in QUANTITIES if (w == "now") == (q == "tasks")]
scopes = st.sampled_from([ALL, "tenant:*", "tenant:a", "tenant:b", "model:*", "model:m", "tenant:"])
keys = st.builds(lambda scope, pair: LimitKey(scope, *pair), scopes, st.sampled_from(PAIRS))
amounts = st.integers(1, MOST)
tables = st.dictionaries(keys, st.none() | amounts)


def test_the_form_for_the_scripts_has_letter_number_and_amount() -> None:
    limits = Limits(
        {
            LimitKey("tenant:acme", "now", "tasks"): 10,
            LimitKey("tenant:acme", "rolling", "requests"): 1000,
            LimitKey("tenant:acme", "month", "dollars"): 15_000 * 10**9,
            LimitKey("tenant:acme", "day", "dollars"): 500 * 10**9,
        }
    )
    assert limits.packed("tenant:acme") == "d1=500000000000;m1=15000000000000;r3=1000;c4=10"
    assert limits.packed("tenant:other") == limits.packed(ALL) == ""


def test_a_name_goes_before_each_limit_by_limit() -> None:
    limits = Limits(
        {
            LimitKey("tenant:*", "day", "dollars"): 5,
            LimitKey("tenant:*", "hour", "tokens"): 100,
            LimitKey("tenant:acme", "day", "dollars"): 7,
        }
    )
    assert limits.of("tenant:acme") == (Limit("hour", "tokens", 100), Limit("day", "dollars", 7))
    assert limits.of("tenant:other") == (Limit("hour", "tokens", 100), Limit("day", "dollars", 5))
    assert limits.of("model:acme") == limits.of(ALL) == ()
    assert limits.named_tenants == {"acme"}


def test_a_lifted_limit_is_none_though_each_has_one() -> None:
    each = {LimitKey("tenant:*", "day", "dollars"): 5}
    limits = Limits({**each, LimitKey("tenant:acme", "day", "dollars"): None})
    assert limits.of("tenant:acme") == ()
    assert limits.packed("tenant:acme") == ""
    assert limits.packed("tenant:other") == "d1=5"
    assert limits.named_tenants == {"acme"}


def test_a_tenant_may_be_called_anything() -> None:
    limits = Limits({LimitKey("tenant:a:b|c", "day", "tokens"): 1})
    assert limits.packed("tenant:a:b|c") == "d2=1"
    assert limits.packed("tenant:a") == ""
    assert limits.named_tenants == {"a:b|c"}


@given(tables, scopes)
def test_what_is_packed_is_what_holds(table: dict[LimitKey, int | None], scope: str) -> None:
    limits = Limits(table)
    assert unpack(limits.packed(scope)) == limits.of(scope)
    for window, quantity in PAIRS:
        own, each = LimitKey(scope, window, quantity), LimitKey(each_of(scope), window, quantity)
        most = table[own] if own in table else table.get(each)
        found = [limit.most for limit in limits.of(scope) if limit[:2] == (window, quantity)]
        assert found == ([] if most is None else [most])


@given(st.lists(st.builds(lambda pair, most: Limit(*pair, most), st.sampled_from(PAIRS), amounts)))
def test_packing_loses_nothing(found: list[Limit]) -> None:
    assert list(unpack(pack(tuple(found)))) == found


@pytest.mark.parametrize("text", ["d1", "x1=3", "d5=3", "d1=-3", "d1=3;", "d1=3,m1=4", "d1=1e3"])
def test_what_is_no_packed_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no packed limit"):
        unpack(text)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (Limit("day", "dollars", 500 * 10**9), "$500 per UTC day"),
        (Limit("month", "dollars", 20_150_000), "$0.02015 per UTC month"),
        (Limit("rolling", "requests", 1000), "1,000 requests in any 60 minutes"),
        (Limit("now", "tasks", 10), "10 tasks at once"),
    ],
)
def test_a_limit_can_be_said(limit: Limit, said: str) -> None:
    assert limit.description == said


def test_in_an_emergency_only_the_urgent_and_the_allowed_pass() -> None:
    emergency = Emergency("ops", "runaway loop", 1_790_000_000.0, frozenset({"acme"}))
    assert emergency.admits("other", 0)
    assert emergency.admits("acme", 5)
    assert not emergency.admits("other", 1)
