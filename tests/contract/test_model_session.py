"""Failover, escalation and what is learned: a fake provider over HTTP, and a real Valkey."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from fake_provider import (
    Behaviour,
    answer,
    bad_request,
    broken,
    cut,
    filtered,
    hang,
    rate_limited,
    too_long,
)
from task_runs import Run

from fleet.errors import (
    ContextWindowExceeded,
    ModelRefused,
    RateLimited,
    Unavailable,
)
from fleet.models.calls.call import ModelCaller
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.run import next_model
from workers.code_generator import SPEC
from workers.code_generator.models import CodeGenerationResult

ORDER = ["small", "middle", "large", "huge"]
WRONG = answer("def add(a, b):\n    return a - b\n", 100, 20)
RIGHT = answer("def add(a, b):\n    return a + b\n", 120, 25)
TESTS = "assert add(1, 0) == 1\nassert add(1, 2) == 3"


def warm(fleet: Connection, key_id: str, model: str) -> None:
    """End the cool-down of a model."""
    until = fleet.models.state.read().cooldowns[key_id, model].until
    fleet.models.state.warm(key_id, model, until)


def test_the_ranking_is_that_of_the_submission(start: Callable[..., Run]) -> None:
    run = start(limit=1.0)
    assert [each.model for each in run.lease.candidates] == ORDER
    assert run.lease.limit_nanodollars == 1_000_000_000


def test_a_model_that_answers_is_asked_again(start: Callable[..., Run]) -> None:
    run = start()
    run.fake.script("small", answer("hi", 30, 10, cached_tokens=20))
    assert run.ask(times=2).model == "small"
    first, second = run.record.model_calls
    assert (first.why, first.ended, second.why) == ("first", "ok", "again")
    assert (first.provider, first.input_tokens, first.cached_input_tokens) == ("fake", 30, 20)
    assert (first.output_tokens, first.cost_nanodollars) == (10, 0)
    assert 0 < first.seconds < 60
    assert run.record.submitted <= first.at <= second.at
    assert (run.record.model, run.record.answered_by) == ("small", "small")
    assert (run.record.input_tokens, run.record.output_tokens) == (40, 15)
    assert run.cooling == {}


def test_a_rate_limit_goes_to_the_next_model_and_cools_the_first_down_for_the_fleet(
    start: Callable[..., Run],
) -> None:
    run = start()
    run.fake.script("small", rate_limited(retry_after=40))
    assert run.ask(times=2).model == "middle"
    assert run.told() == [
        ("small", "first", "rate limited"),
        ("middle", "failover: small rate limited", "ok"),
        ("middle", "again", "ok"),
    ]
    assert run.cooling == {"small": pytest.approx(40, abs=5)}
    assert (run.record.model, run.lease.model) == ("middle", "small")
    # Another task, in another process as it were, does not ask it at all.
    other = start()
    assert other.ask().model == "middle"
    assert other.fake.count("small") == 1


def test_a_model_that_began_to_cool_down_after_the_choice_is_not_asked(
    start: Callable[..., Run],
) -> None:
    run = start()
    ((key_id,),) = {model.key_ids for model in run.fleet.models.catalogue if model.name == "small"}
    run.fleet.models.state.cool(key_id, "small", "an outage", 60)
    assert run.ask().model == "middle"
    assert run.told() == [("middle", "failover: small cools down after an outage", "ok")]


@pytest.mark.parametrize(
    ("behaviour", "seconds"),
    [(broken(500), 5), (broken(503, retry_after=30), 30), (cut(), 5), (hang(), 5)],
    ids=["500", "503 that says when", "a cut answer", "no answer"],
)
def test_an_outage_goes_to_the_next_model_and_cools_down(
    start: Callable[..., Run], behaviour: Behaviour, seconds: float
) -> None:
    run = start()
    run.fake.script("small", behaviour)
    assert run.ask().model == "middle"
    assert run.told()[0] == ("small", "first", "unavailable")
    assert run.cooling == {"small": pytest.approx(seconds, abs=2)}


def test_a_refusal_goes_to_the_next_model_and_cools_nothing_down(
    start: Callable[..., Run],
) -> None:
    run = start()
    run.fake.script("small", filtered())
    assert run.ask().model == "middle"
    assert run.told()[0] == ("small", "first", "refused")
    assert run.cooling == {}


def test_a_prompt_that_is_too_long_goes_to_a_larger_window(start: Callable[..., Run]) -> None:
    run = start()
    run.fake.script("small", too_long())
    assert run.ask().model == "large"
    assert run.fake.count("middle") == 0
    assert run.told()[1] == ("large", "failover: small context window exceeded", "ok")
    assert run.cooling == {}


def test_after_all_known_windows_comes_the_unknown_one_and_then_none(
    start: Callable[..., Run],
) -> None:
    run = start()
    for model in ("small", "large", "huge"):
        run.fake.script(model, too_long())
    run.fails(
        ContextWindowExceeded,
        "small: the prompt is too long.*; middle: has no larger window .*10,000.*; large: .*; huge",
    )
    assert [model for model, *_ in run.told()] == ["small", "large", "huge"]


def test_a_call_that_was_refused_burned_nothing(
    start: Callable[..., Run], client: redis.Redis
) -> None:
    run = start()
    run.fake.script("small", bad_request())
    assert run.ask().model == "middle"
    assert run.told()[0] == ("small", "first", "rejected")
    assert uncertain_calls(run, client) == 0


SLOW_DOWN = Behaviour(body={"error": {"code": 429, "message": "slow down"}})
NOTHING_SAID = answer("", 40, 0, finish="error")


def test_an_error_inside_a_200_costs_nothing_and_cools_down_as_what_it_says(
    start: Callable[..., Run], client: redis.Redis
) -> None:
    run = start(limit=0.1)
    run.fake.script("small", filtered())
    run.fake.script("middle", SLOW_DOWN)
    assert run.ask().model == "large"
    step = run.record.model_calls[1]
    assert (step.ended, step.cost_nanodollars, step.usage) == ("rate limited", 0, "seen")
    assert run.cooling == {"middle": pytest.approx(10, abs=2)}
    # Only the answer that was filtered has told nothing of what it took.
    assert uncertain_calls(run, client) == 1


def test_an_error_without_a_word_costs_what_was_told(start: Callable[..., Run]) -> None:
    run = start(limit=0.1)
    run.fake.script("small", broken(500))
    run.fake.script("middle", NOTHING_SAID)
    assert run.ask().model == "large"
    step = run.record.model_calls[1]
    assert (step.ended, step.input_tokens, step.output_tokens) == ("unavailable", 40, 0)
    assert (step.cost_nanodollars, step.usage) == (40_000, "seen")


def uncertain_calls(run: Run, client: redis.Redis) -> int:
    return int(client.hget(f"{{fleet}}:task:{run.lease.task_id}", "uncertain_calls") or 0)


def test_with_no_model_left_the_first_error_tells_of_each(start: Callable[..., Run]) -> None:
    run = start()
    run.fake.script("small", filtered())
    run.fake.script("middle", broken(500, retry_after=60))
    run.fake.script("large", rate_limited(retry_after=70))
    run.fake.script("huge", rate_limited(retry_after=80))
    error = run.fails(
        ModelRefused, "small: .*would not answer.*; middle: .*500.*; large: .*429.*; huge: .*429"
    )
    assert "sk-secret" not in str(error)
    assert [ended for *_, ended in run.told()] == [
        *("refused", "unavailable", "rate limited", "rate limited")
    ]
    assert run.record.answered_by == ""


def test_an_only_models_error_is_raised_as_it_is(start: Callable[..., Run]) -> None:
    run = start(limit=0.0)
    assert len(run.lease.candidates) == 1
    run.fake.script("small", rate_limited(retry_after=50))
    error = run.fails(RateLimited, "^the provider of small accepts no more")
    assert isinstance(error, RateLimited)
    assert error.retry_after == 50


def test_models_that_cool_down_for_long_are_not_waited_for(start: Callable[..., Run]) -> None:
    run = start(limit=0.004)
    for model in run.fleet.models.catalogue:
        run.fleet.models.state.cool(model.key_ids[0], model.name, "an outage", 60)
    why = "cools down for 60 s more after an outage"
    error = run.fails(Unavailable, f"small: {why}; middle: {why}")
    assert isinstance(error, Unavailable)
    assert error.retry_after == pytest.approx(60, abs=2)
    assert run.fake.count() == 0


def test_where_all_cool_down_briefly_the_soonest_is_waited_for(start: Callable[..., Run]) -> None:
    run = start(limit=0.004)
    run.fake.script("small", rate_limited(retry_after=2))
    run.fake.script("middle", rate_limited(retry_after=1))
    assert run.ask().model == "middle"
    why = [why for _, why, _ in run.told()]
    assert why[:2] == ["first", "failover: small rate limited"]
    assert why[2].startswith("failover: middle rate limited, waited ")
    # Its success ends its cool-down, and small's goes on.
    assert set(run.cooling) == {"small"}


def test_a_wait_is_made_once(start: Callable[..., Run]) -> None:
    run = start(limit=0.0)
    run.fake.script("small", *[rate_limited(retry_after=1)] * 3)
    run.fails(RateLimited, "accepts no more")
    assert run.fake.count("small") == 2


def test_a_model_that_took_long_to_fail_is_not_waited_for(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_model, "SLOW_SECONDS", 0.5)
    run = start(limit=0.0)
    run.fake.script("small", hang())
    run.fails(Unavailable, "cannot be had now")
    assert run.fake.count("small") == 1


def test_a_success_after_a_cool_down_ends_the_failures_in_a_row(
    start: Callable[..., Run], client: redis.Redis
) -> None:
    run = start()
    ((key_id,),) = {model.key_ids for model in run.fleet.models.catalogue}
    client.hset("{fleet}:models", f"cool|{key_id}|small", "1000,7,an outage")
    assert run.ask().model == "small"
    assert run.cooling == {}


def test_a_client_is_made_in_a_thread_since_its_package_takes_long_to_import(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    makers: list[int] = []

    def noting(self: ModelCaller, *arguments: Any) -> None:
        makers.append(threading.get_ident())
        make(self, *arguments)

    make = ModelCaller.__init__
    monkeypatch.setattr(ModelCaller, "__init__", noting)
    run = start()
    assert run.ask().model == "small"
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_the_first_fifty_steps_are_kept_and_all_are_counted(start: Callable[..., Run]) -> None:
    run = start()
    step = ModelCall("small", "fake", "again", "ok", output_tokens=1)
    for call in range(1, 61):
        for _ in range(2):
            run.fleet.tasks.model_calls.settle(run.lease, call, step)
    assert (len(run.record.model_calls), run.record.model_call_count) == (50, 60)
    assert run.record.output_tokens == 60


def test_calls_teach_the_fleet_how_quick_a_model_is(start: Callable[..., Run]) -> None:
    run = start()
    run.fake.script("small", rate_limited(retry_after=60))
    run.fake.script("middle", answer("hi", 10, 7))
    run.ask()
    seen = run.fleet.models.state.read().evidence
    assert list(seen) == [("middle", "code_generation")]
    timed = seen["middle", "code_generation"]
    assert (timed.calls, timed.tokens, timed.rewards) == (1, 7, 0)
    assert timed.seconds == pytest.approx(run.record.model_calls[1].seconds, abs=1e-4)


def test_an_answer_counts_though_nothing_can_be_learned(
    start: Callable[..., Run], client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start()
    away = open_connection(run.fleet.settings).models.state
    away.client.connection_pool.connection_kwargs["port"] = 1
    run = run.with_services(state=away)
    assert run.ask().model == "small"
    run.session.learning.learn(1.0)
    assert run.record.answered_by == "small"
    assert "a fact about a model was not stored" in capsys.readouterr().err
    assert run.fleet.models.state.read().evidence == {}


def escalate(run: Run, score: float = 0.25) -> bool:
    return run.loop.run(run.context.escalate("it failed its check", score))


def test_an_escalation_goes_to_the_next_stronger_model_and_the_score_is_learned(
    start: Callable[..., Run],
) -> None:
    run = start()
    run.ask()
    assert escalate(run)
    assert run.ask().model == "middle"
    assert run.told()[1] == ("middle", "escalation: it failed its check", "ok")
    learned = run.fleet.models.state.read().evidence["small", "code_generation"]
    assert (learned.rewards, learned.reward) == (1, 0.25)
    assert ("middle", "code_generation") in run.fleet.models.state.read().evidence


def test_there_is_no_escalation_beyond_the_strongest_or_the_limit_or_the_policy(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.004)
    run.ask()
    assert escalate(run)
    run.ask()
    assert not escalate(run)
    assert run.ask().model == "middle"
    forbidden = start(speed_priority="escalate = false\nspeed_priority")
    forbidden.ask()
    assert not escalate(forbidden)
    with pytest.raises(ValueError, match="score is 2"):
        escalate(run, 2)


def test_code_that_fails_with_a_weak_model_is_written_by_a_stronger_one(
    start: Callable[..., Run],
) -> None:
    run = start()
    run.fake.script("small", WRONG, WRONG)
    run.fake.script("middle", WRONG, RIGHT)
    payload = SPEC.payload(instruction="Write add(a, b).", tests=TESTS, max_attempts=2)
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert isinstance(outcome.result, CodeGenerationResult)
    assert (outcome.state, outcome.quality) == ("succeeded", 1.0)
    models = [attempt.model for attempt in outcome.result.attempts]
    assert (models, outcome.result.model) == (["small", "small", "middle", "middle"], "middle")
    assert [attempt.temperature for attempt in outcome.result.attempts] == [0.0, 0.5, 0.0, 0.5]
    assert [why for _, why, _ in run.told()] == [
        *("first", "again", "escalation: small failed at tests", "again")
    ]
    # One of the two asserts held: what small's best answer was worth.
    assert run.fleet.models.state.read().evidence["small", "code_generation"].reward == 0.5


def test_code_that_no_model_gets_right_has_the_quality_of_the_last_ones_best_answer(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.004)
    run.fake.script("small", WRONG)
    run.fake.script("middle", answer("no code"))
    payload = SPEC.payload(instruction="Write add(a, b).", tests=TESTS, max_attempts=1)
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert (outcome.state, outcome.quality) == ("unverified", 0.0)
    assert isinstance(outcome.result, CodeGenerationResult)
    # The quality is middle's, and a rating of the result will be small's.
    assert (outcome.result.model, outcome.model) == ("small", "small")


CUT = answer("```python\ndef add(a, b):\n    return a\n", finish="length")
CUT_AFTER_THE_CODE = answer("```python\ndef add(a, b):\n    return 1\n```\nThis", finish="length")


def test_code_that_an_answer_ends_in_at_its_limit_is_asked_for_again(
    start: Callable[..., Run],
) -> None:
    run = start(limit=0.0)
    run.fake.script("small", CUT, CUT_AFTER_THE_CODE)
    payload = SPEC.payload(instruction="Write add(a, b).", max_attempts=2, max_tokens=64)
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert isinstance(outcome.result, CodeGenerationResult)
    assert [attempt.passed for attempt in outcome.result.attempts] == [False, True]
    assert "the answer was cut at its limit of 64 tokens" in str(run.fake.requests()[1].body)


def test_code_that_was_cut_and_passes_its_tests_is_enough(start: Callable[..., Run]) -> None:
    run = start(limit=0.0)
    run.fake.script("small", CUT)
    payload = SPEC.payload(instruction="Write add(a, b).", tests="assert add(1, 2) == 1")
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert (outcome.state, run.fake.count("small")) == ("succeeded", 1)


def test_neither_failover_nor_escalation_leads_back_to_a_model_that_failed(
    start: Callable[..., Run],
) -> None:
    run = start()
    run.fake.script("small", *[WRONG] * 9)
    run.fake.script("middle", *[filtered()] * 9)
    run.fake.script("large", *[WRONG] * 9)
    run.fake.script("huge", *[WRONG] * 9)
    payload = SPEC.payload(instruction="Write add(a, b).", tests=TESTS, max_attempts=1)
    outcome = run.loop.run(SPEC.make().run(payload, run.context))
    assert outcome.state == "unverified"
    assert run.told() == [
        ("small", "first", "ok"),
        ("middle", "escalation: small failed at tests", "refused"),
        ("large", "failover: middle refused", "ok"),
        ("huge", "escalation: large failed at tests", "ok"),
    ]
    evidence = run.fleet.models.state.read().evidence
    rewards = {model: seen.rewards for (model, _), seen in evidence.items()}
    assert rewards == {"small": 1, "large": 1, "huge": 0}


def test_a_model_that_refused_is_not_escalated_to(start: Callable[..., Run]) -> None:
    run = start(**{"speed = 1.0": "speed = 0.5"})
    run.fake.script("middle", filtered())
    assert run.ask().model == "small"
    assert escalate(run)
    assert run.ask().model == "large"
    assert run.fake.count("middle") == 1


def test_with_only_failed_models_left_the_error_says_so(start: Callable[..., Run]) -> None:
    run = start(limit=0.004)
    run.ask()
    assert escalate(run)
    run.fake.script("middle", filtered())
    run.fails(ModelRefused, "small: its answer failed the check; middle: .*would not answer")


def test_a_run_says_one_thing_of_a_model(start: Callable[..., Run]) -> None:
    run = start()
    run.ask()
    run.session.learning.learn(0.25)
    run.session.learning.learn(1.0)
    seen = run.fleet.models.state.read().evidence["small", "code_generation"]
    assert (seen.rewards, seen.reward) == (1, 0.25)


def test_code_for_which_no_model_answers_at_all_fails(start: Callable[..., Run]) -> None:
    run = start(limit=0.0)
    run.fake.script("small", filtered())
    payload = SPEC.payload(instruction="Write add(a, b).", max_attempts=3)
    with pytest.raises(ModelRefused):
        run.loop.run(SPEC.make().run(payload, run.context))


def test_a_model_that_cooled_down_at_submission_is_asked_once_it_is_ready(
    start: Callable[..., Run],
) -> None:
    known = start()
    ((key_id,),) = {model.key_ids for model in known.fleet.models.catalogue}
    for model in ("small", "large"):
        known.fleet.models.state.cool(key_id, model, "an outage", 60)
    run = start()
    assert [each.model for each in run.lease.candidates] == ["middle", "huge", "small", "large"]
    run.fake.script("middle", filtered())
    assert run.ask().model == "huge"
    for model in ("small", "large"):
        warm(known.fleet, key_id, model)
    run.fake.script("huge", filtered())
    assert run.ask().model == "middle"
    assert escalate(run)
    assert run.ask().model == "large"
