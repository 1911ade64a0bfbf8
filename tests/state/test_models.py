"""What is learned of models and which cool down, judged by the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.models.rules.learning import ModelEvidence
from fleet.models.store import ModelState, parse_facts
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.reaper import summarize_health

KEY = "{fleet}:models"
WEEK_MS = 7 * 86_400_000
LEARNED = "learned|gpt|code_generation"


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


@pytest.fixture
def state(fleet: Connection) -> ModelState:
    return fleet.models.state


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def evidence(state: ModelState, model: str = "gpt") -> ModelEvidence:
    return state.read().evidence[model, "code_generation"]


def set_sums(client: redis.Redis, sums: str, age_ms: int) -> None:
    client.hset(KEY, LEARNED, f"{sums},{now_ms(client) - age_ms}")


def cool_until(client: redis.Redis, until_ms: int, failures: int) -> None:
    client.hset(KEY, "cool|key|gpt", f"{until_ms},{failures},a failure")


def test_rewards_and_timed_calls_add_up(state: ModelState) -> None:
    state.learn("gpt", "code_generation", 1.0)
    state.learn("gpt", "code_generation", 0.5)
    state.timed("gpt", "code_generation", 100, 2.0)
    seen = evidence(state)
    # The older reward weighs a two-hundredth less.
    assert seen.rewards == pytest.approx(1.995)
    assert seen.reward == pytest.approx(0.995 + 0.5)
    assert (seen.calls, seen.tokens, seen.seconds) == pytest.approx((1, 100, 2), rel=1e-6)


def test_evidence_weighs_no_more_than_two_hundred_rewards(
    state: ModelState, client: redis.Redis
) -> None:
    set_sums(client, "200,200,200,200,200", age_ms=0)
    state.learn("gpt", "code_generation", 0.0)
    state.timed("gpt", "code_generation", 1, 1.0)
    seen = evidence(state)
    assert (seen.rewards, seen.calls) == pytest.approx((200, 200), rel=1e-6)
    assert seen.reward == pytest.approx(199)


def test_evidence_of_a_half_life_ago_weighs_half(state: ModelState, client: redis.Redis) -> None:
    set_sums(client, "4,2,8,800,16", age_ms=WEEK_MS)
    state.learn("gpt", "code_generation", 1.0, weight=0.0)
    seen = evidence(state)
    sums = (seen.rewards, seen.reward, seen.calls, seen.tokens, seen.seconds)
    assert sums == pytest.approx((2, 1, 4, 400, 8), rel=1e-6)
    assert seen.at == pytest.approx(now_ms(client) / 1000, abs=5)


def test_facts_are_the_same_from_the_flat_list_of_a_script(
    state: ModelState, client: redis.Redis
) -> None:
    state.learn("vendor/gpt|4", "nap", 0.25)
    state.cool("openai:abcd", "vendor/gpt|4", "a rate limit, again", 7.0)
    flat = client.eval("return redis.call('HGETALL', KEYS[1])", 1, KEY)
    facts = parse_facts(flat)
    assert facts == state.read()
    assert list(facts.evidence) == [("vendor/gpt|4", "nap")]
    cooling = facts.cooldowns["openai:abcd", "vendor/gpt|4"]
    assert (cooling.failures, cooling.reason) == (1, "a rate limit, again")


def test_nothing_learned_is_no_facts(state: ModelState) -> None:
    assert parse_facts([]) == state.read()
    assert not state.read().evidence


@pytest.mark.parametrize(("asked", "seconds"), [(0.5, 0.5), (30.0, 30.0), (1e6, 3600.0)])
def test_a_model_cools_down_for_as_long_as_its_provider_asks(
    state: ModelState, asked: float, seconds: float
) -> None:
    assert state.cool("key", "gpt", "a rate limit", asked) == seconds


def test_each_failure_after_a_cool_down_doubles_the_next_up_to_five_minutes(
    state: ModelState, client: redis.Redis
) -> None:
    for failures, seconds in enumerate((5, 10, 20, 40, 80, 160, 300, 300), start=1):
        assert state.cool("key", "gpt", "HTTP 500", None) == seconds
        assert state.read().cooldowns["key", "gpt"].failures == failures
        cool_until(client, now_ms(client) - 1, failures)


def test_calls_that_fail_together_count_as_one_failure(state: ModelState) -> None:
    for _ in range(5):
        assert state.cool("key", "gpt", "HTTP 500", None) <= 5
    assert state.read().cooldowns["key", "gpt"].failures == 1


def test_a_short_wait_does_not_end_a_longer_one(state: ModelState) -> None:
    state.cool("key", "gpt", "a rate limit", 60.0)
    assert state.cool("key", "gpt", "a rate limit", 1.0) > 55


def test_a_success_ends_the_failures_in_a_row(state: ModelState, client: redis.Redis) -> None:
    cool_until(client, now_ms(client) - 1, 4)
    state.warm("key", "gpt", state.read().cooldowns["key", "gpt"].until)
    assert not state.read().cooldowns
    assert state.cool("key", "gpt", "HTTP 500", None) == 5


def test_a_late_success_leaves_a_cool_down_that_began_since(
    state: ModelState, client: redis.Redis
) -> None:
    cool_until(client, now_ms(client) - 1, 1)
    seen = state.read().cooldowns["key", "gpt"].until
    state.cool("key", "gpt", "a rate limit", 60.0)
    state.warm("key", "gpt", seen)
    assert state.read().cooldowns["key", "gpt"].failures == 2
    state.warm("key", "another", seen)
    assert list(state.read().cooldowns) == [("key", "gpt")]


def test_a_provider_that_asks_for_no_time_has_asked_for_none(state: ModelState) -> None:
    assert state.cool("key", "gpt", "a rate limit", 0.0) == 5


def test_another_process_sees_a_cool_down_and_what_was_learned(
    fleet: Connection, client: redis.Redis, valkey_url: str
) -> None:
    fleet.models.state.cool("key", "gpt", "a rate limit", 30.0)
    fleet.models.state.learn("gpt", "code_generation", 1.0)
    with redis.Redis.from_url(valkey_url) as other:
        elsewhere = ModelState(other, Keys("{fleet}"), Scripts(other), 1.0)
        now, facts = elsewhere.look()
    assert facts == fleet.models.state.look()[1]
    assert facts.cooldowns["key", "gpt"].until - now == pytest.approx(30, abs=5)


def test_what_is_configured_no_more_is_dropped(state: ModelState) -> None:
    for model, request_type in (("gpt", "nap"), ("gone", "nap"), ("gpt", "gone")):
        state.learn(model, request_type, 1.0)
    state.cool("key", "gpt", "HTTP 500", None)
    state.cool("key", "gone", "HTTP 500", None)
    dropped = state.prune(["gpt"], ["nap"])
    assert sorted(dropped) == ["cool|key|gone", "learned|gone|nap", "learned|gpt|gone"]
    facts = state.read()
    assert (*facts.evidence, *facts.cooldowns) == (("gpt", "nap"), ("key", "gpt"))
    assert state.prune(["gpt"], ["nap"]) == []


def test_a_cool_down_that_ended_more_than_a_day_ago_is_dropped(
    state: ModelState, client: redis.Redis
) -> None:
    for key_id, hours in (("replaced", 25), ("kept", 23)):
        ended = now_ms(client) - hours * 3_600_000
        client.hset(KEY, f"cool|{key_id}|gpt", f"{ended},3,a refused key")
    assert state.prune(["gpt"], []) == ["cool|replaced|gpt"]
    assert list(state.read().cooldowns) == [("kept", "gpt")]


def test_beats_health_job_drops_what_is_configured_no_more(
    fleet: Connection, state: ModelState
) -> None:
    known = fleet.models.catalogue[0].name
    state.learn(known, "code_generation", 1.0)
    state.learn("gone", "code_generation", 1.0)
    summarize_health(fleet)
    assert list(state.read().evidence) == [(known, "code_generation")]
