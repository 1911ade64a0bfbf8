"""Learning about models: the quality and the speed of each on each request type.

The catalogue's figures are a prior. Outcomes of real tasks are evidence, whose weight decays with
time and with newer evidence. Both together give a posterior with its uncertainty:

    quality = (k q0 + sum of rewards) / (k + rewards)      the mean of a Beta distribution
    speed   = (k s0 + calls x s) / (k + calls),  s = t / (t + 50),  t tokens a second

q0 and s0 are the catalogue's figures. k is the prior's strength: its weight as a number of tasks. A
reward between 0 and 1 counts as this fraction of a success. (S. Agrawal and N. Goyal, Analysis of
Thompson Sampling for the Multi-armed Bandit Problem, COLT 2012, algorithm 2, toss a coin instead,
which has the same mean and adds noise.) Without evidence the posterior equals the prior exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np

from fleet.models.rules.output_limits import LimitRecord

WEEK_SECONDS = 7 * 86400.0
# The speed of a hosted model of medium size, which counts as 0.5.
MIDDLING_TOKENS_PER_SECOND = 50.0
LEAST_SHAPE = 1e-6


@dataclass(frozen=True, slots=True)
class ModelEvidence:
    """The evidence about one model on one request type, in decayed sums as of `at`.

    `rewards` is the number of rewards and `reward` their sum, each reward 0 to 1. `calls` is the
    number of timed calls, with their output `tokens` and their `seconds`. `at` is in seconds since
    1970 by Redis's clock.
    """

    rewards: float = 0.0
    reward: float = 0.0
    calls: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    at: float = 0.0


WHOLE_KEY = ""
"""The name, in place of a model's, of a cool-down for all models of a key."""


@dataclass(frozen=True, slots=True)
class CoolDown:
    """A model gets no calls until `until`, in seconds since 1970 by Redis's clock.

    `failures` counts the failures in a row that led to the cool-down.
    """

    until: float
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The fleet's shared facts about its models.

    `evidence` is by (model, request type), `cooldowns` by (key id, model). A key id identifies a
    provider's key without revealing it. `WHOLE_KEY` stands for all models of a key. `limits` says
    by model whether its answers keep their output limit. `prices` is the version of the shared
    price data, empty if there is none. `versions` says by key id which version of a key has failed.
    """

    evidence: Mapping[tuple[str, str], ModelEvidence] = field(default_factory=dict)
    cooldowns: Mapping[tuple[str, str], CoolDown] = field(default_factory=dict)
    limits: Mapping[str, LimitRecord] = field(default_factory=dict)
    prices: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)

    def cool_downs(self, key_id: str, model: str) -> dict[str, CoolDown]:
        """The cool-downs of a model with a key, its own and its key's, by their names."""
        found = {name: self.cooldowns.get((key_id, name)) for name in (model, WHOLE_KEY)}
        return {name: each for name, each in found.items() if each is not None}

    def cool_down(self, key_ids: Iterable[str], model: str) -> CoolDown | None:
        """The cool-down of a model: of its keys, that which ends first; None if one has none."""
        longest = (
            max(self.cool_downs(each, model).values(), key=_end, default=None) for each in key_ids
        )
        first: CoolDown | None = None
        for found in longest:
            if found is None:
                return None
            first = found if first is None else min(first, found, key=_end)
        return first


def _end(cool_down: CoolDown) -> float:
    return cool_down.until


NOTHING_LEARNED = ModelFacts()


@dataclass(frozen=True, slots=True)
class ChoicePolicy:
    """How the evidence is used.

    `mean` uses the posterior's mean as a model's quality. `thompson` uses a draw from it, which
    tries models of uncertain quality now and then. A model with a mean under `quality_floor` is
    never chosen. `prior_strength` is over 0.
    """

    name: Literal["mean", "thompson"] = "mean"
    quality_floor: float = 0.0
    prior_strength: float = 10.0
    half_life_seconds: float = WEEK_SECONDS


THE_MEAN = ChoicePolicy()


class Posterior(NamedTuple):
    """The quality and speed of a model on a request type, 0 to 1, with their uncertainty.

    `quality_sd` is the standard deviation of the quality. `rewards` and `calls` are the amount of
    evidence as of now.
    """

    quality: float
    speed: float
    quality_sd: float
    rewards: float
    calls: float


def posterior(
    quality: float, speed: float, evidence: ModelEvidence | None, policy: ChoicePolicy, now: float
) -> Posterior:
    """The catalogue's prior, moved by the evidence. `now` is by Redis's clock."""
    strength = policy.prior_strength
    if evidence is None:
        return Posterior(quality, speed, _deviation(quality, strength), 0.0, 0.0)
    kept = 0.5 ** (max(0.0, now - evidence.at) / policy.half_life_seconds)
    rewards, calls = kept * evidence.rewards, kept * evidence.calls
    mean = (strength * quality + kept * evidence.reward) / (strength + rewards)
    quick = (strength * speed + calls * measured_speed(evidence)) / (strength + calls)
    return Posterior(mean, quick, _deviation(mean, strength + rewards), rewards, calls)


def measured_speed(evidence: ModelEvidence) -> float:
    """Tokens a second as a figure from 0 to 1: 50 give 0.5, 450 give 0.9. 0 without seconds."""
    if evidence.seconds <= 0.0:
        return 0.0
    return evidence.tokens / (evidence.tokens + MIDDLING_TOKENS_PER_SECOND * evidence.seconds)


def drawn_quality(belief: Posterior, policy: ChoicePolicy, rng: np.random.Generator) -> float:
    """One draw from the Beta distribution of a model's quality, for Thompson sampling."""
    weight = policy.prior_strength + belief.rewards
    # Beta has no shape of 0. A model of quality 0 or 1 draws nearly always this value.
    good = max(LEAST_SHAPE, weight * belief.quality)
    bad = max(LEAST_SHAPE, weight * (1.0 - belief.quality))
    return float(rng.beta(good, bad))


def _deviation(mean: float, weight: float) -> float:
    """The standard deviation of a Beta distribution with this mean and sum of shapes."""
    return sqrt(max(0.0, mean * (1.0 - mean)) / (weight + 1.0))
