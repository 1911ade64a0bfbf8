"""Texts become sketches, outcomes become a model, and a model tells easy from difficult."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core.difficulty.model import MOST_BYTES, VERSION, DifficultyModel
from fleet.core.difficulty.text_features import BITMAP_BYTES, COUNTS, FIGURES, Sketch, sketch
from fleet.core.difficulty.text_tables import READ_BYTES
from fleet.core.difficulty.training import Outcome, Trained, area_under_curve, train
from fleet.errors import InvalidConfig, InvalidRequest

EASY = ("Say hello to {}", "List the colours of {}", "Name a friend of {}", "Greet {} kindly")
HARD = (
    "Prove that the lattice {} is modular if and only if no pentagon embeds in it",
    "Derive the asymptotic complexity of {} under adversarial scheduling, and prove it tight",
    "Calculate the determinant of the matrix {} = [[3, 7], [12, x^2 + 1]] modulo 17",
)
NAMES = [f"{first}{second}" for first in ("ba", "ko", "mi", "ru") for second in "tnlsvzdg"]


def outcomes(noise: float = 0.1, seed: int = 1) -> list[Outcome]:
    """Outcomes of two models: easy texts mostly pass, hard ones mostly do not."""
    dice = np.random.default_rng(seed)
    found = []
    for place, name in enumerate(NAMES):
        for text, good in [(each, 1.0) for each in EASY] + [(each, 0.0) for each in HARD]:
            reward = good if dice.random() > noise else 1.0 - good
            model, quality = (("strong", 0.9), ("weak", 0.4))[place % 2]
            found.append(Outcome(sketch(text.format(name)), "general", model, reward, quality))
    return found


def trained(found: list[Outcome]) -> Trained:
    return train(found, np.random.default_rng(5))


@cache
def learned_once() -> Trained:
    return trained(outcomes())


@pytest.fixture
def learned() -> Trained:
    return learned_once()


@pytest.fixture
def model() -> DifficultyModel:
    return learned_once().model


@cache
def stored_model() -> DifficultyModel:
    return DifficultyModel.from_bytes(learned_once().model.to_bytes())


def test_difficult_texts_with_new_words_are_estimated_above_easy_ones(
    model: DifficultyModel,
) -> None:
    easy = [model.estimate(text.format("Quincy")) for text in EASY]
    hard = [model.estimate(text.format("Quincy")) for text in HARD]
    assert max(easy) < min(hard)


def test_the_report_says_how_well_unseen_tasks_were_told_apart(learned: Trained) -> None:
    report = learned.report
    assert report.examples == len(NAMES) * (len(EASY) + len(HARD))
    assert report.counts == {("general", "strong"): 112, ("general", "weak"): 112}
    assert report.auc > 0.8
    assert report.correlation > 0.5
    low, middle, high = report.spread
    assert low < 0.2 < middle < 0.8 < high


def test_outcomes_that_have_nothing_to_do_with_the_texts_teach_nothing() -> None:
    dice = np.random.default_rng(3)
    found = [each._replace(reward=float(dice.integers(2))) for each in outcomes()]
    assert trained(found).report.auc == pytest.approx(0.5, abs=0.12)


def test_a_text_only_a_strong_model_failed_is_harder_than_one_only_a_weak_model_failed() -> None:
    strong_failed, weak_failed, neither = HARD[0], HARD[1], EASY[0]
    found = []
    for name in NAMES:
        for text in (strong_failed, weak_failed, neither, EASY[1]):
            for agent, quality in (("strong", 0.9), ("weak", 0.4)):
                failed = (text, agent) in {(strong_failed, "strong"), (weak_failed, "weak")}
                fails_often = agent == "weak" and text == EASY[1]
                reward = 0.0 if failed or fails_often else 1.0
                if (text, agent) in {(strong_failed, "weak"), (weak_failed, "strong")}:
                    continue
                found.append(Outcome(sketch(text.format(name)), "general", agent, reward, quality))
    learned = trained(found).model
    assert learned.estimate(strong_failed.format("x")) > learned.estimate(weak_failed.format("x"))


@given(st.text(max_size=300))
def test_an_estimate_is_a_number_from_0_to_1_for_any_text(text: str) -> None:
    assert 0.0 <= stored_model().estimate(text) <= 1.0


@given(st.text(max_size=300))
def test_a_sketch_survives_being_stored(text: str) -> None:
    made = sketch(text)
    stored = made.to_bytes()
    read = Sketch.from_bytes(stored)
    assert len(stored) == BITMAP_BYTES + FIGURES
    assert read.buckets.tolist() == made.buckets.tolist()
    assert read.figures.tolist() == made.figures.tolist()


@given(st.text(max_size=300))
def test_text_and_its_stored_sketch_are_estimated_alike(text: str) -> None:
    read = Sketch.from_bytes(sketch(text).to_bytes())
    assert stored_model().estimate(text) == stored_model().estimate(read)


@pytest.mark.parametrize("text", ["", " ", "\n", "a", "ab", "\ud800", "é", "\n\n\n", "A.", "\nA."])
def test_a_very_short_text_has_a_sketch_and_an_estimate(text: str, model: DifficultyModel) -> None:
    assert len(sketch(text).figures) == FIGURES
    assert 0.0 <= model.estimate(text) <= 1.0


def test_what_comes_after_the_read_bytes_does_not_count() -> None:
    text = "one two " * READ_BYTES
    assert sketch(text).to_bytes() == sketch(text[:READ_BYTES]).to_bytes()


def test_case_and_punctuation_change_the_figures_and_not_the_buckets() -> None:
    plain, shouted = sketch("do not divide by zero."), sketch("DO NOT: divide, by ZERO!")
    assert plain.buckets.tolist() == shouted.buckets.tolist()
    assert plain.figures.tolist() != shouted.figures.tolist()


def counted(text: str, name: str) -> int:
    """A count of the form, back from its logarithmic scale."""
    return round(float(2 ** (sketch(text).figures[COUNTS.index(name)] / 16)) - 1)


def test_the_items_of_a_list_are_counted_and_measured() -> None:
    text = "Which one?\nA. 12\nB. three\nC. 4\n"
    assert counted(text, "items") == 3
    assert counted(text, "digits in the list") == 3
    assert counted(text, "words before the list") == 2
    assert counted(text, "longest item") == len("B. three\n")


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("It is not, and never was, true", "negation", 2),
        ("How many? Why? Explain", "asks how", 3),
        ("x = [1, 2];", "code", 3),
        ("NOT this but THAT one", "shouted words", 2),
        ("One. Two! Three?", "sentences", 4),
        ("the cat and the dog", "distinct words", 4),
        ("größer", "words", 1),
    ],
)
def test_the_form_of_a_text_is_counted(text: str, name: str, count: int) -> None:
    assert counted(text, name) == count


def test_a_sketch_is_the_same_in_another_process() -> None:
    text = "Find the degree for the given field extension Q(sqrt(2)) over Q.\nA. 0\nB. 4"
    program = (
        "import sys; from fleet.core.difficulty.text_features import sketch; "
        "sys.stdout.buffer.write(sketch(sys.argv[1]).to_bytes())"
    )
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", program, text],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        )
        assert found.stdout == sketch(text).to_bytes()


def test_the_same_outcomes_and_dice_make_the_same_model(model: DifficultyModel) -> None:
    assert trained(outcomes()).model.to_bytes() == model.to_bytes()


def test_a_stored_model_estimates_as_before_and_is_small(model: DifficultyModel) -> None:
    stored = model.to_bytes()
    read = DifficultyModel.from_bytes(stored)
    assert len(stored) <= MOST_BYTES
    assert read.to_bytes() == stored
    for text in (*EASY, *HARD):
        assert read.estimate(text) == model.estimate(text)


def test_bytes_that_are_no_model_are_refused_with_advice(model: DifficultyModel) -> None:
    stored = model.to_bytes()
    other_version = stored[:8] + bytes([VERSION + 1]) + stored[9:]
    flipped = stored[:-1] + bytes([stored[-1] ^ 1])
    for wrong, why in (
        (b"", "no difficulty model"),
        (b"x" * 100, "no difficulty model"),
        (other_version, f"version {VERSION + 1}"),
        (stored[:-1], "damaged"),
        (flipped, "damaged"),
    ):
        with pytest.raises(InvalidConfig, match=rf"{why}.*fleet models train"):
            DifficultyModel.from_bytes(wrong)


def test_a_sketch_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="another version"):
        Sketch.from_bytes(b"123")


def test_too_few_outcomes_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="10 examples are too few"):
        trained(outcomes()[:10])


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_outcomes_of_one_kind_are_refused(reward: float) -> None:
    with pytest.raises(InvalidRequest, match="ended alike"):
        trained([each._replace(reward=reward) for each in outcomes()])


def test_one_and_the_same_text_again_and_again_is_refused() -> None:
    same = sketch(EASY[0])
    with pytest.raises(InvalidRequest, match="too few different texts"):
        trained([each._replace(sketch=same) for each in outcomes()])


@pytest.mark.parametrize("reward", [-0.1, 1.1, float("nan")])
def test_a_reward_out_of_range_is_refused(reward: float) -> None:
    found = outcomes()
    with pytest.raises(InvalidRequest, match="outside 0 to 1"):
        trained([found[0]._replace(reward=reward), *found[1:]])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_counts_for_nothing_is_refused(weight: float) -> None:
    found = outcomes()
    with pytest.raises(InvalidRequest, match="not above 0"):
        trained([found[0]._replace(weight=weight), *found[1:]])


def test_a_model_that_saw_no_difference_says_one_half(model: DifficultyModel) -> None:
    flat = replace(model, shares=np.zeros_like(model.shares))
    assert flat.estimate(HARD[0]) == 0.5


@pytest.mark.parametrize(
    ("higher", "lower", "area"),
    [([2.0, 3.0], [1.0], 1.0), ([1.0], [1.0], 0.5), ([1.0, 4.0], [2.0, 3.0], 0.5)],
)
def test_the_area_under_the_curve_counts_pairs(
    higher: list[float], lower: list[float], area: float
) -> None:
    assert area_under_curve(np.array(higher), np.array(lower)) == area
