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

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.models.rules.difficulty.evidence import Evidence, evidence, parts_of
from fleet.models.rules.difficulty.model import (
    BODY_BYTES,
    HEADER,
    VERSION,
    DifficultyModel,
    is_of_an_earlier_version,
)
from fleet.models.rules.difficulty.text_features import (
    BITMAP_BYTES,
    EARLIER_BYTES,
    READ_BYTES,
    SKETCH_BYTES,
    Sketch,
    sketch,
)
from fleet.models.rules.difficulty.training import LEAST_OF_MODEL, TaskOutcome, Trained, train

EASY = (
    "Say hello to {} in a few friendly words of your own, as kindly as to an old friend",
    "List the colours of {} one after the other, the bright ones first and then the dark",
    "Name a friend of {} and say when they met, where they went, and what they ate there",
    "Greet {} kindly",
)
HARD = (
    "Prove that the lattice {} is modular if and only if no pentagon embeds in it",
    "Derive the asymptotic complexity of {} under adversarial scheduling, and prove it tight",
    "Calculate the determinant of the matrix {} = [[3, 7], [12, x^2 + 1]] modulo 17",
)
NAMES = [f"{first}{second}" for first in ("ba", "ko", "mi", "ru") for second in "tnlsvzdg"]


def outcomes(noise: float = 0.1, seed: int = 1) -> list[TaskOutcome]:
    """One answer to each text, of one of two models by lot: easy texts mostly pass, hard ones
    mostly do with the strong model alone."""
    dice = np.random.default_rng(seed)
    found = []
    for name in NAMES:
        for text, is_easy in [(each, True) for each in EASY] + [(each, False) for each in HARD]:
            model, quality = (("strong", 0.9), ("weak", 0.4))[dice.integers(2)]
            good = float(is_easy or model == "strong")
            reward = good if dice.random() > noise else 1.0 - good
            found.append(TaskOutcome(sketch(text.format(name)), "general", model, reward, quality))
    return found


def trained(found: list[TaskOutcome]) -> Trained:
    return train(found)


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
    assert sum(report.counts.values()) == report.examples
    assert set(report.counts) == {("general", "strong"), ("general", "weak")}
    assert report.words > 0.4
    assert 0.6 < report.text.gain < 2.0
    assert report.text.beats_chance
    low, middle, high = report.spread
    assert low < 0.2 < middle < 0.8 < high


def test_outcomes_that_have_nothing_to_do_with_the_texts_teach_nothing() -> None:
    dice = np.random.default_rng(3)
    found = [each._replace(reward=float(dice.integers(2))) for each in outcomes()]
    with pytest.raises(InvalidRequest, match=r"do not tell yet which .* Nothing was learned, n"):
        trained(found)


def test_texts_that_every_model_fails_need_no_better_model() -> None:
    """What fails alike is no reason to pay: the difference counts, and not failure."""
    hopeless, worth_it, easy = HARD[0], HARD[1], EASY[0]
    passes = {(worth_it, "strong"), (easy, "strong"), (easy, "weak")}
    dice = np.random.default_rng(4)
    found = []
    for name in NAMES * 2:
        for text in (hopeless, worth_it, easy):
            model, quality = (("strong", 0.9), ("weak", 0.4))[dice.integers(2)]
            reward = float((text, model) in passes)
            found.append(TaskOutcome(sketch(text.format(name)), "general", model, reward, quality))
    learned = trained(found).model
    assert learned.estimate(worth_it.format("x")) > learned.estimate(hopeless.format("x"))
    assert learned.estimate(worth_it.format("x")) > learned.estimate(easy.format("x"))


def test_neither_what_all_solve_nor_what_all_fail_needs_the_better_model() -> None:
    """The more hard words, the more fail, the strong model later than the weak one."""
    dice = np.random.default_rng(5)
    words = ["".join(map(chr, dice.integers(97, 123, 7))) for _ in range(80)]

    def text(share: float) -> str:
        places = dice.integers(40, size=20) + 40 * (dice.random(20) < share)
        return " ".join(words[place] for place in places)

    found = []
    for _ in range(1500):
        share = float(dice.random())
        model, quality, least = (("strong", 0.9, 2 / 3), ("weak", 0.4, 1 / 3))[dice.integers(2)]
        reward = float(share < least)
        found.append(TaskOutcome(sketch(text(share)), "general", model, reward, quality))
    learned = trained(found).model
    solved, between, failed = (
        np.mean([learned.estimate(text(share)) for _ in range(20)]) for share in (0.05, 0.5, 0.95)
    )
    assert between > max(solved, failed) + 0.3


def test_the_better_model_is_the_one_that_is_believed_to_be_better() -> None:
    swapped = [each._replace(quality=1.3 - each.quality) for each in outcomes()]
    model = trained(swapped).model
    # What the weak model cannot do, now believed to be the better one, it is not to be asked.
    hard = [model.estimate(text.format("Quincy")) for text in HARD]
    assert max(hard) < min(model.estimate(text.format("Quincy")) for text in EASY)


@pytest.mark.parametrize("alone", ["weak", "strong"])
def test_outcomes_of_one_model_alone_teach_nothing(alone: str) -> None:
    found = [each for each in outcomes() if each.model == alone]
    with pytest.raises(InvalidRequest, match=rf"no request type has outcomes of .*of {alone} o"):
        trained(found)


def test_a_few_outcomes_of_a_second_model_are_none_to_learn_from() -> None:
    weak = [each for each in outcomes() if each.model == "weak"]
    strong = [each for each in outcomes() if each.model == "strong"][: LEAST_OF_MODEL - 1]
    with pytest.raises(InvalidRequest, match="at least 20 of each"):
        trained([*weak, *strong])


def test_two_request_types_of_one_model_each_cannot_be_compared() -> None:
    found = [each._replace(request_type=f"only {each.model}") for each in outcomes()]
    with pytest.raises(InvalidRequest, match="cannot tell which task needs which"):
        trained(found)


def test_a_request_type_of_one_model_is_left_out_and_the_others_are_learned_from() -> None:
    alone = [each for each in outcomes(seed=2) if each.model == "weak"][:60]
    lonely = [each._replace(request_type="lonely", reward=1 - each.reward) for each in alone]
    report = trained([*outcomes(), *lonely]).report
    assert report.examples == len(outcomes())
    assert report.counts["lonely", "weak"] == 60


def test_models_that_are_believed_to_be_equally_good_leave_nothing_to_choose() -> None:
    with pytest.raises(InvalidRequest, match="equally good"):
        trained([each._replace(quality=0.7) for each in outcomes()])


def test_where_the_length_tells_more_than_the_words_it_is_gone_by() -> None:
    dice = np.random.default_rng(7)
    found = []
    for _ in range(400):
        # No word twice, so that words say nothing; the longer texts are the strong model's.
        size = int(dice.integers(5, 60))
        text = " ".join("".join(map(chr, dice.integers(97, 123, 9))) for _ in range(size))
        model, quality = (("strong", 0.9), ("weak", 0.4))[dice.integers(2)]
        reward = float(model == "strong" or dice.random() > size / 60)
        found.append(TaskOutcome(sketch(text), "general", model, reward, quality))
    done = trained(found)
    assert done.report.length.beats_chance
    short, long = "word " * 6, "word " * 50
    assert done.model.estimate(short) < done.model.estimate(long)


def test_a_model_that_found_no_words_ranks_by_length() -> None:
    """Words without end, so that none says anything; only short texts are the weak model's too."""
    dice = np.random.default_rng(7)
    found = []
    for size in [*range(20, 1020, 5)] * 4:
        text = "".join(map(chr, dice.integers(97, 123, size)))
        for model, quality in (("strong", 0.9), ("weak", 0.4)):
            reward = float(model == "strong" or dice.random() > size / 1020)
            found.append(TaskOutcome(sketch(text), "general", model, reward, quality))
    model = trained(found).model
    flat = replace(model, buckets=np.zeros_like(model.buckets))
    estimates = [flat.estimate("y" * size) for size in range(10, 1000, 10)]
    assert estimates == sorted(estimates)
    assert len(set(estimates)) > 40


def test_a_policy_that_sent_hard_texts_to_the_strong_model_is_seen_through() -> None:
    """The strong model fails more often, on texts at which the weak one fails still more."""
    dice = np.random.default_rng(9)
    found = []
    for name in NAMES * 2:
        for text, is_easy in [(each, True) for each in EASY] + [(each, False) for each in HARD]:
            is_strong = dice.random() < (0.15 if is_easy else 0.85)
            chance = 0.95 if is_easy else 0.6 if is_strong else 0.1
            model, quality = ("strong", 0.9) if is_strong else ("weak", 0.4)
            reward = float(dice.random() < chance)
            found.append(TaskOutcome(sketch(text.format(name)), "general", model, reward, quality))
    done = trained(found)
    assert done.report.words > 0.4
    assert done.report.text.gain == pytest.approx(0.75, abs=0.3)
    easy = [done.model.estimate(text.format("Quincy")) for text in EASY]
    hard = [done.model.estimate(text.format("Quincy")) for text in HARD]
    assert max(easy) < min(hard)


def test_three_models_are_told_apart_by_the_better_ones_gain() -> None:
    dice = np.random.default_rng(11)
    qualities = {"strong": 0.9, "middling": 0.6, "weak": 0.3}
    found = []
    for name in NAMES * 2:
        for text, is_easy in [(each, True) for each in EASY] + [(each, False) for each in HARD]:
            model = list(qualities)[dice.integers(3)]
            chance = 0.95 if is_easy else qualities[model]
            reward = float(dice.random() < chance)
            quality = qualities[model]
            found.append(TaskOutcome(sketch(text.format(name)), "general", model, reward, quality))
    learned = trained(found).model
    easy = [learned.estimate(text.format("Quincy")) for text in EASY]
    assert max(easy) < min(learned.estimate(text.format("Quincy")) for text in HARD)


@pytest.mark.parametrize("error", [0.0, 0.1])
def test_evidence_beats_chance_from_two_standard_errors_on(error: float) -> None:
    assert Evidence(2 * error + 0.001, error).beats_chance
    assert not Evidence(2 * error, error).beats_chance
    assert not Evidence(-1.0, error).beats_chance


def test_the_evidence_is_by_how_much_the_gain_rises_from_end_to_end() -> None:
    places = np.arange(10_000.0)
    assert evidence(places, 0.3 * places / len(places)).gain == pytest.approx(0.3, rel=1e-3)
    assert evidence(-places, 0.3 * places / len(places)).gain == pytest.approx(-0.3, rel=1e-3)
    assert evidence(np.zeros(4), np.array([0.0, 1.0, 0.0, 1.0])) == (0.0, 0.0)
    # Ranks of 1/4 and 3/4, gains of 0 and 1: 12 x 1/4 x 1/2 of each, all alike
    assert evidence(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == (1.5, 0.0)


@given(st.text(max_size=300))
def test_an_estimate_is_a_number_from_0_to_1_for_any_text(text: str) -> None:
    assert 0.0 <= stored_model().estimate(text) <= 1.0


@given(st.text(max_size=300))
def test_a_sketch_survives_being_stored(text: str) -> None:
    made = sketch(text)
    stored = made.to_bytes()
    read = Sketch.from_bytes(stored)
    assert len(stored) == SKETCH_BYTES
    assert read.buckets.tolist() == made.buckets.tolist()
    assert read.length == made.length


@given(st.text(max_size=300))
def test_text_and_its_stored_sketch_are_estimated_alike(text: str) -> None:
    read = Sketch.from_bytes(sketch(text).to_bytes())
    assert stored_model().estimate(text) == stored_model().estimate(read)


@pytest.mark.parametrize("text", ["", " ", "\n", "a", "ab", "\ud800", "é", "\n\n\n", "A.", "\nA."])
def test_a_very_short_text_has_a_sketch_and_an_estimate(text: str, model: DifficultyModel) -> None:
    assert len(sketch(text).to_bytes()) == SKETCH_BYTES
    assert 0.0 <= model.estimate(text) <= 1.0


def test_what_comes_after_the_read_bytes_does_not_count() -> None:
    text = "one two " * READ_BYTES
    assert sketch(text).to_bytes() == sketch(text[:READ_BYTES]).to_bytes()


def test_case_and_punctuation_leave_the_sketch_as_it_is() -> None:
    plain, shouted = sketch("do not divide by zero.  "), sketch("DO NOT: divide, by ZERO!")
    assert plain.to_bytes() == shouted.to_bytes()


@pytest.mark.parametrize(("text", "length"), [("", 16), ("a", 16), ("abc", 32), ("é" * 600, 164)])
def test_the_length_is_in_sixteenths_of_a_doubling(text: str, length: int) -> None:
    assert sketch(text).length == length


def test_a_sketch_of_the_earlier_version_is_read_without_its_figures() -> None:
    made = sketch(HARD[0])
    assert EARLIER_BYTES == BITMAP_BYTES + 65 == 1089
    read = Sketch.from_bytes(made.to_bytes() + bytes(range(64)))
    assert (read.buckets.tolist(), read.length) == (made.buckets.tolist(), made.length)


def test_a_sketch_is_the_same_in_another_process() -> None:
    text = "Find the degree for the given field extension Q(sqrt(2)) over Q.\nA. 0\nB. 4"
    program = (
        "import sys; from fleet.models.rules.difficulty.text_features import sketch; "
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
    assert len(stored) == HEADER.size + BODY_BYTES < 50_000
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


def test_a_model_of_an_earlier_version_is_known_as_one(model: DifficultyModel) -> None:
    stored = model.to_bytes()
    earlier = stored[:8] + bytes([VERSION - 1]) + stored[9:]
    assert is_of_an_earlier_version(earlier)
    with pytest.raises(InvalidConfig, match=rf"version {VERSION - 1}.*fleet models train"):
        DifficultyModel.from_bytes(earlier)
    for other in (stored, stored[:8] + bytes([VERSION + 1]), stored[:8], b"", b"x" * 100):
        assert not is_of_an_earlier_version(other)


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


def test_two_estimates_are_mixed_by_what_each_explains_of_the_gains() -> None:
    dice = np.random.default_rng(2)
    first, second = dice.normal(size=(2, 4000))
    gains = 0.2 * first + 0.2 * second + dice.normal(size=4000) / 10
    assert parts_of(5 * second + 1, first, gains) == pytest.approx((0.2, 0.2), abs=0.02)
    surely = 0.3 * first + 0.1 * second + dice.normal(size=4000) / 10
    assert parts_of(first, second, surely) == (1.0, 0.0)
    assert parts_of(second, first, surely) == pytest.approx((0.1, 0.3), abs=0.02)
    assert parts_of(first, second, 0.3 * first - 0.1 * second) == (1.0, 0.0)
    assert parts_of(first, second, 0.3 * second - 0.1 * first) == (0.0, 1.0)
