"""From recorded outcomes to the complexity of the next task, on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from fleet.core.difficulty.text_features import sketch
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.runtime.messages import message_encoder
from fleet.services.complexity import Complexity
from fleet.services.connection import Connection, open_connection
from fleet.services.difficulty import train_difficulty
from fleet.services.requests import Submission
from fleet.services.submit import Submitter
from fleet.settings import Settings

EASY = "Write a function that adds {0} and {1}."
HARD = "Prove that the scheduler of {0} threads and {1} locks never deadlocks, then implement it."


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    fleet = open_connection(settings_of(""))
    fleet.registry.register("codegen-1", "codegen", 1000, {})
    return fleet


def complexity(fleet: Connection, submitter: Submitter, instruction: str) -> float:
    done = submitter.submit(Submission("code_generation", {"instruction": instruction}))
    return fleet.tasks.read(done.task_id).complexity


def record(fleet: Connection, count: int = 60) -> None:
    for number in range(count):
        for text, reward in ((EASY, 1.0), (HARD, 0.0)):
            words = text.format(number, number + 7)
            fleet.examples.add("code_generation", "gpt-4o", reward, sketch(words).to_bytes())


def test_before_any_training_a_task_is_of_middling_complexity(fleet: Connection) -> None:
    assert complexity(fleet, fleet.submitter(message_encoder()), HARD.format(2, 3)) == 0.5


def test_what_was_learned_holds_for_producers_that_run_and_for_those_that_start(
    fleet: Connection,
) -> None:
    running = fleet.submitter(message_encoder())
    complexity(fleet, running, EASY.format(1, 2))
    record(fleet)
    train_difficulty(fleet.examples, {"gpt-4o": 0.9}, fleet.policies.set_difficulty)
    complexity(fleet, running, EASY.format(1, 2))  # its answer tells that there is something new
    for submitter in (running, fleet.submitter(message_encoder())):
        easy = complexity(fleet, submitter, EASY.format(100, 200))
        hard = complexity(fleet, submitter, HARD.format(100, 200))
        assert easy < 0.5 < hard


def test_a_complexity_that_is_given_is_taken_as_it_is(fleet: Connection) -> None:
    record(fleet)
    train_difficulty(fleet.examples, {"gpt-4o": 0.9}, fleet.policies.set_difficulty)
    submitter = fleet.submitter(message_encoder())
    asked = Submission("code_generation", {"instruction": HARD.format(1, 2)}, complexity=0.1)
    assert fleet.tasks.read(submitter.submit(asked).task_id).complexity == 0.1


def test_a_model_that_cannot_be_read_fails_each_time_and_not_only_the_first(
    fleet: Connection,
) -> None:
    fleet.policies.set_difficulty(b"from another version")
    estimates = Complexity(fleet.policies)
    for _ in range(2):
        with pytest.raises(InvalidConfig):
            estimates.estimate("{}")


def test_too_few_outcomes_are_said_and_change_nothing(fleet: Connection) -> None:
    record(fleet, 3)
    with pytest.raises(InvalidRequest, match="6 examples are too few"):
        train_difficulty(fleet.examples, {}, fleet.policies.set_difficulty)
    assert fleet.policies.read().version == "0"


def test_a_second_submission_is_the_first_though_it_would_be_estimated_otherwise(
    fleet: Connection,
) -> None:
    submitter = fleet.submitter(message_encoder())
    asked = Submission(
        "code_generation", {"instruction": HARD.format(1, 2)}, idempotency_key="once"
    )
    first = submitter.submit(asked).task_id
    record(fleet)
    train_difficulty(fleet.examples, {"gpt-4o": 0.9}, fleet.policies.set_difficulty)
    complexity(fleet, submitter, EASY.format(1, 2))  # its answer tells of the training
    assert submitter.submit(asked).task_id == first
