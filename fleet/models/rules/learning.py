"""What was learned of the models: how good and how quick each is on each request type.

The catalogue's figures are a prior; outcomes of real tasks are evidence, whose weight fades
with time and with newer evidence. Both together are a posterior that keeps its uncertainty:

    quality = (k q0 + sum of rewards) / (k + rewards)      the mean of a Beta distribution
    speed   = (k s0 + calls x s) / (k + calls),  s = t / (t + 50),  t tokens a second

q0 and s0 are the catalogue's figures and k the prior's strength: what it weighs, as a number of
tasks. A reward between 0 and 1 counts as that part of a success. (S. Agrawal and N. Goyal,
Analysis of Thompson Sampling for the Multi-armed Bandit Problem, COLT 2012, algorithm 2, toss a
coin for it instead, which has the same mean and adds noise.) Without evidence the posterior is
the prior, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np

from fleet.models.rules.output_limits import LimitRecord

WEEK_SECONDS = 7 * 86400.0
# Half way from the slowest to the quickest: what a hosted model of middling size does.
MIDDLING_TOKENS_PER_SECOND = 50.0
LEAST_SHAPE = 1e-6


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one model on one request type, in decayed sums as of `at`.

    `rewards` is the number of rewards and `reward` their sum, each reward 0 to 1; `calls` the
    number of timed calls, with their output `tokens` and their `seconds`. `at` is in seconds
    since 1970 by Redis's clock.
    """

    rewards: float = 0.0
    reward: float = 0.0
    calls: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    at: float = 0.0


WHOLE_KEY = ""
"""What a cool-down of all models of a key is under, in place of a model's name."""


@dataclass(frozen=True, slots=True)
class CoolDown:
    """A model that is left alone until `until`, seconds since 1970 by Redis's clock.

    `failures` counts those in a row that led here.
    """

    until: float
    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """All that the fleet shares about its models.

    `evidence` is by (model, request type), `cooldowns` by (key id, model): a key id names a
    provider's key without telling it, and all models of a key are called `WHOLE_KEY`. `limits` says
    by model whether its answers keep their limit. `prices` is the version of the price data that
    the fleet shares, empty where there is none.
    """

    evidence: Mapping[tuple[str, str], Evidence] = field(default_factory=dict)
    cooldowns: Mapping[tuple[str, str], CoolDown] = field(default_factory=dict)
    limits: Mapping[str, LimitRecord] = field(default_factory=dict)
    prices: str = ""

    def cool_downs(self, key_id: str | None, model: str) -> dict[str, CoolDown]:
        """Those that a model is under, its own and its key's, by the name that each is under."""
        found = {name: self.cooldowns.get((key_id or "", name)) for name in (model, WHOLE_KEY)}
        return {name: each for name, each in found.items() if each is not None}

    def cool_down(self, key_id: str | None, model: str) -> CoolDown | None:
        """The one that lasts longest."""
        found = self.cool_downs(key_id, model).values() if key_id is not None else ()
        return max(found, key=lambda each: each.until, default=None)


NOTHING_LEARNED = ModelFacts()


@dataclass(frozen=True, slots=True)
class Policy:
    """How what was learned is used.

    `mean` takes the posterior's mean for a model's quality, `thompson` a draw from it, which
    tries models of uncertain quality now and then. A model whose mean is under `quality_floor`
    is never taken. `prior_strength` is over 0.
    """

    name: Literal["mean", "thompson"] = "mean"
    quality_floor: float = 0.0
    prior_strength: float = 10.0
    half_life_seconds: float = WEEK_SECONDS


THE_MEAN = Policy()


class Posterior(NamedTuple):
    """What is believed of a model on a request type, 0 to 1, and how sure that is.

    `quality_sd` is the standard deviation of the quality. `rewards` and `calls` say how much
    evidence there is, as of now.
    """

    quality: float
    speed: float
    quality_sd: float
    rewards: float
    calls: float


def posterior(
    quality: float, speed: float, evidence: Evidence | None, policy: Policy, now: float
) -> Posterior:
    """The prior of the catalogue, moved by what was seen. `now` is by Redis's clock."""
    strength = policy.prior_strength
    if evidence is None:
        return Posterior(quality, speed, _deviation(quality, strength), 0.0, 0.0)
    kept = 0.5 ** (max(0.0, now - evidence.at) / policy.half_life_seconds)
    rewards, calls = kept * evidence.rewards, kept * evidence.calls
    mean = (strength * quality + kept * evidence.reward) / (strength + rewards)
    quick = (strength * speed + calls * measured_speed(evidence)) / (strength + calls)
    return Posterior(mean, quick, _deviation(mean, strength + rewards), rewards, calls)


def measured_speed(evidence: Evidence) -> float:
    """Tokens a second as a figure from 0 to 1: 50 are 0.5, 450 are 0.9. Without seconds 0."""
    if evidence.seconds <= 0.0:
        return 0.0
    return evidence.tokens / (evidence.tokens + MIDDLING_TOKENS_PER_SECOND * evidence.seconds)


def drawn_quality(belief: Posterior, policy: Policy, rng: np.random.Generator) -> float:
    """One draw from the Beta distribution of a model's quality, as Thompson sampling takes it."""
    weight = policy.prior_strength + belief.rewards
    # Beta has no shape of 0: a model of quality 0 or 1 draws as good as always that.
    good = max(LEAST_SHAPE, weight * belief.quality)
    bad = max(LEAST_SHAPE, weight * (1.0 - belief.quality))
    return float(rng.beta(good, bad))


def _deviation(mean: float, weight: float) -> float:
    """The standard deviation of a Beta distribution of that mean and sum of shapes."""
    return sqrt(max(0.0, mean * (1.0 - mean)) / (weight + 1.0))
