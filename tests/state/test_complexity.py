"""From recorded outcomes to the complexity of the next task, on a real Valkey."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import redis
from structlog.testing import capture_logs
from typer.testing import CliRunner

from fleet.broker.messages import message_encoder
from fleet.cli.main import app
from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.complexity import Complexity
from fleet.models.difficulty import train_difficulty
from fleet.models.rules.difficulty.text_features import sketch
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.submission.checks import Submission
from fleet.tasks.submission.submit import Submitter

EASY = "Write a function that adds {0} and {1}, with a docstring and a test of its own beside it."
HARD = "Prove that the scheduler of {0} threads and {1} locks never deadlocks, then implement it."

TWO_MODELS = """
[catalogue."gpt-5"]
provider = "openai"
quality = 0.95
speed = 0.598

[catalogue."gpt-4o"]
provider = "openai"
quality = 0.80
speed = 0.95
"""


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    fleet = open_connection(settings_of(""))
    fleet.routing.agents.register("codegen-1", "codegen", 1000, {})
    return fleet


def complexity(fleet: Connection, submitter: Submitter, instruction: str) -> float:
    done = submitter.submit(Submission("code_generation", {"instruction": instruction}))
    return fleet.tasks.records.read(done.task_id).complexity


QUALITIES = {("gpt-5", "code_generation"): 0.95, ("gpt-4o", "code_generation"): 0.8}


def record(
    fleet: Connection,
    count: int = 60,
    models: Sequence[str] = ("gpt-5", "gpt-4o"),
    figures: bytes = b"",
) -> None:
    """Of each text one model's answer: the hard ones only gpt-5 gets right. `figures` are what the
    earlier version's sketches end with."""
    for number in range(count):
        for text in (EASY, HARD):
            model = models[number % len(models)]
            reward = float(text == EASY or model == "gpt-5")
            words = sketch(text.format(number, number + 7)).to_bytes() + figures
            fleet.models.examples.add("code_generation", model, reward, words)


def train(fleet: Connection) -> None:
    train_difficulty(fleet.models.examples, QUALITIES, fleet.policy.store.set_difficulty)


def test_before_any_training_a_task_is_of_middling_complexity(fleet: Connection) -> None:
    assert complexity(fleet, fleet.submitter(message_encoder()), HARD.format(2, 3)) == 0.5


def test_what_was_learned_holds_for_producers_that_run_and_for_those_that_start(
    fleet: Connection,
) -> None:
    running = fleet.submitter(message_encoder())
    complexity(fleet, running, EASY.format(1, 2))
    record(fleet)
    train(fleet)
    complexity(fleet, running, EASY.format(1, 2))  # its answer tells that there is something new
    for submitter in (running, fleet.submitter(message_encoder())):
        easy = complexity(fleet, submitter, EASY.format(100, 200))
        hard = complexity(fleet, submitter, HARD.format(100, 200))
        assert easy < 0.5 < hard


def test_a_complexity_that_is_given_is_taken_as_it_is(fleet: Connection) -> None:
    record(fleet)
    train(fleet)
    submitter = fleet.submitter(message_encoder())
    asked = Submission("code_generation", {"instruction": HARD.format(1, 2)}, complexity=0.1)
    assert fleet.tasks.records.read(submitter.submit(asked).task_id).complexity == 0.1


def test_a_model_that_cannot_be_read_fails_each_time_and_not_only_the_first(
    fleet: Connection,
) -> None:
    fleet.policy.store.set_difficulty(b"from another version")
    estimates = Complexity(fleet.policy.store)
    for _ in range(2):
        with pytest.raises(InvalidConfig):
            estimates.estimate("{}")


def test_a_model_of_the_earlier_version_is_left_out_and_learned_anew_from_what_is_recorded(
    fleet: Connection,
) -> None:
    fleet.policy.store.set_difficulty(b"FLEETDIF\x01\x02\x2c\x01" + bytes(60_000))
    submitter = fleet.submitter(message_encoder())
    with capture_logs() as logged:
        assert complexity(fleet, submitter, HARD.format(2, 3)) == 0.5
        assert complexity(fleet, submitter, EASY.format(2, 3)) == 0.5
    said = [line["event"] for line in logged if "difficulty model" in line["event"]]
    assert said == [
        "the difficulty model was trained by an earlier version of fleet and is left out; "
        "train it anew: fleet models train"
    ]
    record(fleet, figures=bytes(64))
    train(fleet)
    complexity(fleet, submitter, EASY.format(1, 2))  # its answer tells that there is something new
    easy, hard = (complexity(fleet, submitter, each.format(100, 200)) for each in (EASY, HARD))
    assert easy < 0.5 < hard


def test_too_few_outcomes_are_said_and_change_nothing(fleet: Connection) -> None:
    record(fleet, 3)
    with pytest.raises(InvalidRequest, match="6 examples are too few"):
        train_difficulty(fleet.models.examples, {}, fleet.policy.store.set_difficulty)
    assert fleet.policy.store.read().version == "0"


@pytest.mark.parametrize("alone", ["gpt-5", "gpt-4o"])
def test_the_outcomes_of_one_model_alone_are_said_and_change_nothing(
    fleet: Connection, alone: str
) -> None:
    record(fleet, 60, [alone])
    with pytest.raises(InvalidRequest, match=rf"cannot tell .*120 of {alone} on code_generation"):
        train(fleet)
    command = CliRunner().invoke(app, ["models", "train"])
    assert isinstance(command.exception, InvalidRequest)
    assert "Nothing was learned, nothing is changed" in str(command.exception)
    assert fleet.policy.store.read().version == "0"


def test_training_that_finds_nothing_leaves_what_was_learned_before(fleet: Connection) -> None:
    record(fleet)
    train(fleet)
    before = fleet.policy.store.read()
    assert before.difficulty
    fleet.client.delete(fleet.keys.examples)
    dice = random.Random(1)
    for number in range(60):
        model, reward = dice.choice(("gpt-5", "gpt-4o")), float(dice.random() < 0.5)
        words = sketch(EASY.format(number, 7)).to_bytes()
        fleet.models.examples.add("code_generation", model, reward, words)
    with pytest.raises(InvalidRequest, match="do not tell yet which tasks need a better model"):
        train(fleet)
    assert fleet.policy.store.read() == before


def test_training_changes_which_model_is_chosen_at_a_complexity_that_the_priorities_set(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("OPENAI_API_KEY", "sk-not-a-real-one")
    fleet = open_connection(settings_of(TWO_MODELS))
    fleet.routing.agents.register("codegen-1", "codegen", 1000, {})
    submitter = fleet.submitter(message_encoder())

    def chosen(instruction: str, **asked: float) -> tuple[str, float]:
        payload = {"instruction": instruction}
        done = submitter.submit(Submission("code_generation", payload, **asked))  # type: ignore[arg-type]
        record = fleet.tasks.records.read(done.task_id)
        return record.model, record.complexity

    easy, hard = EASY.format(20, 31), HARD.format(20, 31)
    assert chosen(easy) == chosen(hard) == ("gpt-4o", 0.5)
    record(fleet)
    train(fleet)
    chosen(easy)  # its answer tells that there is something new
    assert chosen(easy)[0] == "gpt-4o"
    assert chosen(hard)[0] == "gpt-5"
    # The better model is chosen where 0.7 (0.5 + c) (0.95 - 0.80) > 0.3 (0.95 - 0.598).
    models = [chosen(easy, complexity=c / 100)[0] for c in range(101)]
    threshold = models.index("gpt-5") / 100
    assert models == ["gpt-4o"] * round(threshold * 100) + ["gpt-5"] * round(101 - threshold * 100)
    assert threshold == 0.51  # 0.3 x 0.352 / (0.7 x 0.15) - 0.5 = 0.506
    # A task that cares more for quality takes the better model from a lower complexity on.
    assert chosen(easy, quality=0.95, speed=0.05)[0] == "gpt-5"


def test_a_second_submission_is_the_first_though_it_would_be_estimated_otherwise(
    fleet: Connection,
) -> None:
    submitter = fleet.submitter(message_encoder())
    asked = Submission(
        "code_generation", {"instruction": HARD.format(1, 2)}, idempotency_key="once"
    )
    first = submitter.submit(asked).task_id
    record(fleet)
    train(fleet)
    complexity(fleet, submitter, EASY.format(1, 2))  # its answer tells of the training
    assert submitter.submit(asked).task_id == first
