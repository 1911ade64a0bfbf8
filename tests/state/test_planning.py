"""What a producer knows of its models, and when it learns of it, on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.broker.messages import message_encoder
from fleet.errors import NotAllowed, Unavailable
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitter

TWO_MODELS = """
[pools.codegen]
agent_type = "code_generator"
slots = 1000

[catalogue."gpt-5"]
provider = "openai"
quality = 0.95
speed = 0.80
context_tokens = 6000

[catalogue."gpt-4o"]
provider = "openai"
quality = 0.80
speed = 0.90
context_tokens = 100000
tenants = ["acme"]
"""
ASK = Submission("code_generation", {"instruction": "add"}, tenant="acme")


@pytest.fixture
def make(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> Callable[[str], Connection]:
    """Makes a fleet with one agent, with `more` in its configuration."""

    def make(more: str) -> Connection:
        clean_environment.setenv("OPENAI_API_KEY", "sk-not-a-real-one")
        fleet = open_connection(settings_of(TWO_MODELS + more))
        fleet.routing.agents.register("codegen-1", "codegen", 1000, {})
        return fleet

    return make


@pytest.fixture
def fleet(make: Callable[[str], Connection]) -> Connection:
    return make("")


def key_id(fleet: Connection) -> str:
    (found,) = fleet.models.catalogue[0].key_ids
    return found


def grow_old(submitter: Submitter) -> None:
    """Let the producer think that a second has passed since it heard of its models."""
    submitter.planner.known_models._read_at -= 1.5


def chosen(submitter: Submitter, asked: Submission = ASK) -> str:
    return submitter.submit(asked).plan.models.model


def test_a_cool_down_reaches_every_producer_with_an_answer_within_a_second(
    fleet: Connection,
) -> None:
    submitter = fleet.submitter(message_encoder())
    assert chosen(submitter) == "gpt-5"
    fleet.models.state.cool(key_id(fleet), "gpt-5", "HTTP 429", 30)
    assert chosen(submitter) == "gpt-5"  # it cannot know yet
    grow_old(submitter)
    chosen(submitter)  # the answer to this one tells
    decision = submitter.submit(ASK).plan.models
    assert decision.model == "gpt-4o"
    reasons = {each.pool: each.reason for each in decision.rejected}
    assert reasons["gpt-5"].startswith("cools down for ")
    assert reasons["gpt-5"].endswith("s more after HTTP 429")


def test_a_producer_that_starts_knows_what_the_fleet_has_learned(fleet: Connection) -> None:
    for _ in range(40):
        fleet.models.state.learn("gpt-5", "code_generation", 0.0)
    decision = fleet.submitter(message_encoder()).submit(ASK).plan.models
    assert decision.model == "gpt-4o"
    # (10 x 0.95 + 0) / (10 + 40), less what 40 times 1/200 has taken from the older ones
    known = {each.model: each.quality for each in decision.ranking}
    assert known["gpt-5"] == pytest.approx(9.5 / 50, abs=0.02)
    assert known["gpt-4o"] == 0.8


def test_what_was_learned_on_one_request_type_says_nothing_of_another(fleet: Connection) -> None:
    for _ in range(40):
        fleet.models.state.learn("gpt-5", "security_analysis", 0.0)
    assert chosen(fleet.submitter(message_encoder())) == "gpt-5"


def test_each_tenant_is_judged_for_itself(fleet: Connection) -> None:
    submitter = fleet.submitter(message_encoder())
    long = {"instruction": "add " * 4500}
    acme = Submission("code_generation", long, tenant="acme")
    other = Submission("code_generation", long, tenant="other")
    assert chosen(submitter, acme) == "gpt-4o"
    with pytest.raises(NotAllowed, match=r"of tenant other: .*gpt-4o: is for other tenants"):
        submitter.submit(other)
    assert chosen(submitter, Submission("code_generation", {"instruction": "x"})) == "gpt-5"


def test_a_shared_plan_names_no_tenant_to_another(fleet: Connection) -> None:
    submitter = fleet.submitter(message_encoder())
    for tenant in ("globex", "initech"):
        asked = Submission("code_generation", {"instruction": "add"}, tenant=tenant)
        submitted = submitter.submit(asked)
        assert "globex" not in submitted.plan.stored
        assert "gpt-4o" in submitted.plan.stored


def test_with_every_model_cooling_down_the_caller_is_told_when_to_come_back(
    fleet: Connection,
) -> None:
    for model in ("gpt-5", "gpt-4o"):
        fleet.models.state.cool(key_id(fleet), model, "HTTP 429", 20)
    with pytest.raises(Unavailable) as refused:
        fleet.submitter(message_encoder()).submit(ASK)
    assert 15 <= refused.value.retry_after <= 20


def test_thompson_sampling_draws_anew_for_each_task(
    make: Callable[[str], Connection],
) -> None:
    fleet = make('\n[models]\npolicy = "thompson"\nquality_priority = 1.0\nspeed_priority = 0.0\n')
    submitter = fleet.submitter(message_encoder())
    assert {chosen(submitter) for _ in range(60)} == {"gpt-5", "gpt-4o"}
