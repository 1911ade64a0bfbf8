"""What evidence does to a model's figures: by hand, and whatever the evidence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidRequest
from fleet.models.rules.choice import REFERENCE_CATALOGUE, choose
from fleet.models.rules.filters import ModelNeeds
from fleet.models.rules.learning import (
    THE_MEAN,
    ChoicePolicy,
    ModelEvidence,
    ModelFacts,
    drawn_quality,
    measured_speed,
    posterior,
)
from fleet.money import Tokens

GPT_5, GPT_4O, OPUS, SONNET, FLASH = REFERENCE_CATALOGUE
DAY = 86400.0
BASE = Tokens(300, 800)
GENERAL = ModelNeeds(request_type="general")
fractions = st.floats(0, 1)
amounts = st.floats(0, 1000)


@st.composite
def seen(draw: st.DrawFn) -> ModelEvidence:
    rewards, calls = draw(amounts), draw(amounts)
    return ModelEvidence(
        rewards, rewards * draw(fractions), calls, draw(amounts), draw(amounts), draw(amounts)
    )


def learned(*names: str, rewards: float, reward: float) -> ModelFacts:
    found = ModelEvidence(rewards=rewards, reward=reward)
    return ModelFacts({(name, "general"): found for name in names})


def test_a_posterior_by_hand() -> None:
    # quality (10 x 0.9 + 6) / (10 + 20) = 0.5; speed 100 tokens a second: 100 / 150 = 2/3,
    # (10 x 0.8 + 5 x 2/3) / 15 = 0.7556; sd of Beta(15, 15): sqrt(0.25 / 31)
    found = ModelEvidence(rewards=20, reward=6, calls=5, tokens=4000, seconds=40)
    belief = posterior(0.9, 0.8, found, THE_MEAN, 0.0)
    assert belief.quality == pytest.approx(0.5)
    assert belief.speed == pytest.approx(11.3333333 / 15)
    assert belief.quality_sd == pytest.approx(math.sqrt(0.25 / 31))
    assert (belief.rewards, belief.calls) == (20, 5)


def test_evidence_of_a_half_life_ago_counts_half() -> None:
    # (10 x 0.9 + 3) / (10 + 10) = 0.6
    policy = ChoicePolicy(half_life_seconds=DAY)
    belief = posterior(0.9, 0.8, ModelEvidence(rewards=20, reward=6, at=5.0), policy, DAY + 5.0)
    assert belief.quality == pytest.approx(0.6)
    assert belief.rewards == pytest.approx(10)


def test_a_stronger_prior_moves_less() -> None:
    found = ModelEvidence(rewards=10, reward=0)
    weak, strong = (
        posterior(0.8, 0.5, found, ChoicePolicy(prior_strength=k), 0.0) for k in (1, 90)
    )
    assert weak.quality == pytest.approx(0.8 / 11)
    assert strong.quality == pytest.approx(0.72)


@pytest.mark.parametrize(("per_second", "speed"), [(0, 0), (50, 0.5), (450, 0.9)])
def test_tokens_a_second_become_a_figure_from_0_to_1(per_second: float, speed: float) -> None:
    assert measured_speed(ModelEvidence(tokens=per_second * 7, seconds=7)) == pytest.approx(speed)


def test_calls_without_a_measured_second_have_no_speed() -> None:
    assert measured_speed(ModelEvidence(calls=1)) == 0.0


@given(fractions, fractions)
def test_without_evidence_the_posterior_is_the_prior_to_the_last_bit(
    quality: float, speed: float
) -> None:
    belief = posterior(quality, speed, None, THE_MEAN, 1e9)
    assert (belief.quality, belief.speed) == (quality, speed)


@given(fractions, fractions, seen(), st.floats(0, 1e6))
def test_a_posterior_is_between_the_prior_and_the_evidence(
    quality: float, speed: float, found: ModelEvidence, now: float
) -> None:
    belief = posterior(quality, speed, found, THE_MEAN, now)
    share = found.reward / found.rewards if found.rewards else quality
    quick = measured_speed(found) if found.calls else speed
    assert min(quality, share) - 1e-9 <= belief.quality <= max(quality, share) + 1e-9
    assert min(speed, quick) - 1e-9 <= belief.speed <= max(speed, quick) + 1e-9


@given(st.floats(0.01, 0.99), st.floats(0, 1000), st.floats(0.1, 1000))
def test_more_evidence_of_the_same_makes_surer(quality: float, few: float, more: float) -> None:
    less_sure, surer = (
        posterior(quality, 0.5, ModelEvidence(rewards=n, reward=n * quality), THE_MEAN, 0.0)
        for n in (few, few + more)
    )
    assert surer.quality_sd < less_sure.quality_sd


@given(fractions, fractions, seen())
def test_in_time_a_posterior_is_the_prior_again(
    quality: float, speed: float, found: ModelEvidence
) -> None:
    belief = posterior(quality, speed, found, THE_MEAN, 80 * THE_MEAN.half_life_seconds)
    assert belief.quality == pytest.approx(quality)
    assert belief.speed == pytest.approx(speed)
    assert belief.rewards < 1e-9


def test_a_clock_that_runs_behind_does_not_amplify_evidence() -> None:
    found = ModelEvidence(rewards=4, reward=1, at=100.0)
    assert posterior(0.5, 0.5, found, THE_MEAN, 0.0) == posterior(0.5, 0.5, found, THE_MEAN, 100.0)


def test_draws_have_the_posteriors_mean_and_deviation() -> None:
    rng = np.random.default_rng(7)
    belief = posterior(0.8, 0.5, ModelEvidence(rewards=20, reward=11), THE_MEAN, 0.0)
    draws = np.array([drawn_quality(belief, THE_MEAN, rng) for _ in range(20_000)])
    # 20,000 draws of sd 0.087: the mean's own deviation is 0.0006
    assert draws.mean() == pytest.approx(belief.quality, abs=0.003)
    assert draws.std() == pytest.approx(belief.quality_sd, abs=0.003)


@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_a_model_that_is_always_right_or_wrong_draws_as_much(quality: float) -> None:
    rng = np.random.default_rng(7)
    belief = posterior(quality, 0.5, None, THE_MEAN, 0.0)
    assert drawn_quality(belief, THE_MEAN, rng) == pytest.approx(quality, abs=1e-3)


def test_failures_take_the_first_place_from_a_model() -> None:
    # gpt-5: quality (9.5 + 2) / 20 = 0.575; 0.575 x 0.7 + 0.8 x 0.3 = 0.6425, under gpt-4o's 0.90
    decision = choose(
        REFERENCE_CATALOGUE, BASE, needs=GENERAL, facts=learned("gpt-5", rewards=10, reward=2)
    )
    assert decision.model == "gpt-4o"
    last = decision.ranking[-1]
    assert (last.model, last.score) == ("gpt-5", pytest.approx(0.6425))
    assert (last.quality, last.rewards) == (pytest.approx(0.575), 10)


def test_evidence_of_another_request_type_does_not_count() -> None:
    facts = learned("gpt-5", rewards=10, reward=2)
    assert (
        choose(REFERENCE_CATALOGUE, BASE, needs=ModelNeeds(request_type="other"), facts=facts).model
        == "gpt-5"
    )


def test_thompson_tries_the_uncertain_and_settles_on_the_better() -> None:
    rng = np.random.default_rng(7)
    policy = ChoicePolicy("thompson")
    twins = [replace(GPT_5, name="good"), replace(GPT_5, name="poor")]

    def share(facts: ModelFacts) -> float:
        chosen = [
            choose(twins, BASE, needs=GENERAL, facts=facts, policy=policy, rng=rng).model
            for _ in range(400)
        ]
        return chosen.count("good") / len(chosen)

    unknown = share(ModelFacts())
    good, poor = ModelEvidence(rewards=200, reward=190), ModelEvidence(rewards=200, reward=120)
    known = share(ModelFacts({("good", "general"): good, ("poor", "general"): poor}))
    # By symmetry a half, of which 400 coins are within 0.1 but once in 20,000 times.
    assert unknown == pytest.approx(0.5, abs=0.1)
    assert known == 1.0


@pytest.mark.parametrize("name", ["mean", "thompson"])
def test_a_model_under_the_quality_floor_is_never_taken(name: str) -> None:
    rng = np.random.default_rng(7)
    policy = ChoicePolicy("thompson" if name == "thompson" else "mean", quality_floor=0.85)
    facts = learned("gpt-5", "gpt-4o", rewards=30, reward=15)
    for _ in range(100):
        decision = choose(
            REFERENCE_CATALOGUE, BASE, needs=GENERAL, facts=facts, policy=policy, rng=rng
        )
        assert not {"gpt-5", "gpt-4o"} & {each.model for each in decision.ranking}
        assert ("gpt-4o", "has quality 0.60, under the floor of 0.85") in decision.rejected


def test_where_every_model_is_under_the_floor_the_error_says_so() -> None:
    with pytest.raises(InvalidRequest, match=r"gpt-5: has quality 0.95, under the floor of 0.99"):
        choose(REFERENCE_CATALOGUE, BASE, policy=ChoicePolicy(quality_floor=0.99))


def test_thompson_without_dice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs an rng"):
        choose(REFERENCE_CATALOGUE, BASE, policy=ChoicePolicy("thompson"))
