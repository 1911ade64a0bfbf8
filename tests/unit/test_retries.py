"""Whether a run is tried again, and when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fleet.errors import (
    FleetError,
    InvalidRequest,
    ModelRefused,
    OverBudget,
    OverLimit,
    RateLimited,
    RetryLater,
    TaskFailed,
    TaskTimedOut,
    Unavailable,
)
from fleet.settings.retries import Retries, RetryPolicy
from fleet.tasks.rules import FullQueue, GiveUp, Retry, decide_retry, is_retried, retry_after

POLICY = RetryPolicy(most=5, base_seconds=2, cap_seconds=60, most_age_seconds=3600)


@pytest.mark.parametrize("error", [Unavailable("a"), RateLimited("a"), RetryLater("a")])
def test_what_time_may_heal_is_tried_again(error: FleetError) -> None:
    assert is_retried(error)
    assert isinstance(decide_retry(error, 0, 0, POLICY, random.Random(1)), Retry)


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("a"),
        ModelRefused("a"),
        TaskFailed("a"),
        TaskTimedOut("a"),
        OverBudget("a", 5.0),
        OverLimit("a", 5.0),
    ],
)
def test_what_no_time_heals_or_a_policy_has_refused_is_not(error: FleetError) -> None:
    assert not is_retried(error)
    assert decide_retry(error, 0, 0, POLICY, random.Random(1)) == GiveUp("permanent")


@given(
    retries=st.integers(0, 2000),
    age=st.floats(0, 10_000),
    after=st.floats(0, 10_000),
    seed=st.integers(),
)
def test_no_retry_is_early_late_or_one_too_many(
    retries: int, age: float, after: float, seed: int
) -> None:
    policy = POLICY._replace(most=1500)
    found = decide_retry(Unavailable("a", after), retries, age, policy, random.Random(seed))
    if isinstance(found, Retry):
        assert after <= found.seconds <= after + min(60, 2 * 2.0 ** min(retries, 100))
        assert age + found.seconds <= 3600
        assert retries < 1500
    else:
        assert found.why == "retries" if retries >= 1500 else age + after + 60 > 3600


def test_the_jitter_fills_the_whole_range() -> None:
    rng = random.Random(7)
    found = [decide_retry(Unavailable("a", 1.0), 3, 0, POLICY, rng) for _ in range(2000)]
    waits = [each.seconds - 1 for each in found if isinstance(each, Retry)]
    assert len(waits) == 2000
    assert min(waits) < 0.1
    assert max(waits) > 15.9
    assert sum(waits) / 2000 == pytest.approx(8, rel=0.05)


def test_a_class_of_errors_has_a_rule_of_its_own_and_hands_it_down() -> None:
    found = Retries.model_validate(
        {"most": 2, "errors": {"Unavailable": {"most": 9}, "RateLimited": {"cap_seconds": 7}}}
    )
    assert found.policy(RetryLater("a")).most == 2
    assert found.policy(Unavailable("a")) == RetryPolicy(9, 2, 300, 21_600)
    assert found.policy(RateLimited("a")) == RetryPolicy(2, 2, 7, 21_600)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"errors": {"TaskFailed": {}}}, "no error that is tried again; use one of: .*Unavailable"),
        ({"errors": {"OverLimit": {}}}, "no error that is tried again"),
        ({"base_seconds": 400}, r"base_seconds \(400\) is over cap_seconds \(300\)"),
        ({"errors": {"RateLimited": {"cap_seconds": 1}}}, r"RateLimited: base_seconds \(2\)"),
        ({"most": -1}, "greater than or equal to 0"),
    ],
)
def test_rules_that_cannot_be_are_refused(given: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Retries.model_validate(given)


def test_whoever_is_refused_comes_back_when_a_tenth_is_taken() -> None:
    assert retry_after(1000, slots=10, response_seconds=2.0) == 20.0
    assert retry_after(10, slots=10, response_seconds=0.01) == 1.0
    assert retry_after(10**6, slots=1, response_seconds=10.0) == 300.0
    assert retry_after(10, slots=0, response_seconds=1.0) == 300.0


def test_a_full_tenant_is_read_whatever_its_name() -> None:
    assert FullQueue.parse("tenant:a|b|7|7") == ("tenant:a|b", 7, 7)
