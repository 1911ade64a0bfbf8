"""Outcomes are recorded without their payload, bounded, and learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from fleet.cli.models import show_training
from fleet.errors import InvalidRequest
from fleet.models import examples_store as module
from fleet.models.difficulty import train_difficulty
from fleet.models.examples_store import Example, Examples
from fleet.models.rules.catalogue import Model
from fleet.models.rules.difficulty.model import DifficultyModel
from fleet.models.rules.difficulty.text_features import sketch
from fleet.redis.scripts import Scripts
from fleet.settings import Settings
from fleet.settings.routing import RequestType
from fleet.tasks.connection import Connection, open_connection

EASY = "greet {} warmly, ask about the family, and say that all of us hope to meet them soon"
HARD = "prove that the ring {} is noetherian if and only if each of its ideals is finite"
QUALITIES = {("small", "general"): 0.3, ("large", "general"): 0.9}
NAMES = [f"{first}{second}" for first in ("ba", "ko", "mi", "ru") for second in "tnlsvzdg"]


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


@pytest.fixture
def examples(fleet: Connection) -> Examples:
    return Examples(fleet.client, fleet.keys, Scripts(fleet.client))


def record(examples: Examples) -> None:
    """Easy tasks that passed, and hard ones that did where the large model answered."""
    for place, name in enumerate(NAMES):
        model = ("small", "large")[place % 2]
        easy, hard = (sketch(text.format(name)).to_bytes() for text in (EASY, HARD))
        examples.add("general", model, 1.0, easy)
        examples.add("general", model, float(model == "large"), hard)


def test_examples_are_read_as_they_were_added_oldest_first(examples: Examples) -> None:
    examples.add("general", "small", 0.1, b"\x00\xff")
    examples.add("code_generation", "größe", 1, b"")
    assert examples.read() == [
        Example("general", "small", 0.1, b"\x00\xff"),
        Example("code_generation", "größe", 1.0, b""),
    ]


def test_without_examples_none_are_read(examples: Examples) -> None:
    assert examples.read() == []


def test_only_the_newest_are_kept_and_all_pages_are_read(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EXAMPLES", 20)
    monkeypatch.setattr(module, "PAGE", 5)
    for number in range(33):
        examples.add("general", f"model-{number}", 0.5, b"s")
    assert [each.model for each in examples.read()] == [f"model-{n}" for n in range(13, 33)]


@pytest.mark.parametrize("reward", [-0.1, 1.5, float("nan")])
def test_a_reward_out_of_range_is_refused_and_not_kept(examples: Examples, reward: float) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        examples.add("general", "small", reward, b"s")
    assert examples.read() == []


def test_nothing_of_a_text_is_in_redis(examples: Examples, client: redis.Redis) -> None:
    record(examples)
    stored = b"".join(value for _, fields in client.xrange(examples.keys.examples)
                      for value in fields.values())  # fmt: skip
    assert b"noetherian" not in stored
    assert b"warmly" not in stored


def test_training_saves_a_model_that_tells_what_was_recorded_apart(examples: Examples) -> None:
    record(examples)
    saved: list[bytes] = []
    report = train_difficulty(examples, QUALITIES, saved.append)
    model = DifficultyModel.from_bytes(saved[0])
    assert model.estimate(HARD.format("x")) > model.estimate(EASY.format("x"))
    assert (report.examples, report.passed) == (64, 48)
    assert report.text.beats_chance


def test_too_few_examples_save_nothing(examples: Examples) -> None:
    examples.add("general", "small", 1.0, sketch("one").to_bytes())
    saved: list[bytes] = []
    with pytest.raises(InvalidRequest, match="1 examples are too few"):
        train_difficulty(examples, {}, saved.append)
    assert saved == []


def test_sketches_of_another_version_are_left_out(examples: Examples) -> None:
    record(examples)
    examples.add("general", "small", 1.0, b"another version's")
    saved: list[bytes] = []
    assert train_difficulty(examples, QUALITIES, saved.append).examples == 64


def test_the_command_shows_what_was_learned_for_people_and_for_programs(
    fleet: Connection, examples: Examples, capsys: pytest.CaptureFixture[str]
) -> None:
    record(examples)
    models = [Model(name, "who", None, quality, 0.5) for (name, _), quality in QUALITIES.items()]
    types = {"general": RequestType(agent_type="code_generator")}
    config = fleet.settings.config.model_copy(update={"request_types": types})
    stores = replace(fleet.models, catalogue=tuple(models))
    fleet = replace(fleet, models=stores, settings=replace(fleet.settings, config=config))
    saved: list[bytes] = []
    show_training(fleet, saved.append, as_json=False)
    shown = capsys.readouterr().out
    assert "Learned from 64 tasks; 48 of them passed." in shown
    gain = "models grows from the easiest to the most difficult tasks by "
    assert gain in " ".join(shown.split())
    show_training(fleet, saved.append, as_json=True)
    report = json.loads(capsys.readouterr().out)
    assert report["by_type_and_model"] == [
        {"request_type": "general", "model": name, "examples": 32} for name in ("large", "small")
    ]
    assert 0.0 <= report["words"] <= 1.0
    assert report["text"]["gain"] > 0.5
    assert saved[0] == saved[1]
