"""The gain of better models on each text, estimated although one model alone answered each text.

The gain of a text is the expected reward of the better models minus that of the worse ones. For two
models it is the difference of their expected rewards:

    gain(x)      = sum over candidates m of direction(m) p_m(x)
    direction(m) is proportional to n_m (q_m - mean q), with the positive ones adding up to 1

p_m(x) is the expected reward of m minus m's mean on the request type. q_m is the quality that the
fleet believes m to have there, and n_m the number of its outcomes on record.

The candidates share what their outcomes have in common: u(x) is the expected reward of a text above
the mean, for any candidate. Each candidate has its own quadratic function of u, because a text that
all solve or all fail needs no better model, and its own line over the words for the rest:

    p_m(x)       = a_m + b_m u(x) + c_m u(x)^2 + line_m(x)

The one answer to each text, of candidate a with reward r, corrects the expectation. It counts more
the less often a is asked about such texts:

    observed(x)  = gain(x) + direction(a) (r - p_a(x)) / chance(a, x)

The observed gain is unbiased, with a large variance for each text (doubly robust estimate:
J. Robins, A. Rotnitzky and L. Zhao, 1994). So a record in which a policy sent the difficult texts
to one model is judged as if the models had been drawn at random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fleet.models.rules.difficulty.ridge import PARTS, PENALTY, Floats, Texts, fit
from fleet.models.rules.difficulty.text_features import Integers

PENALTY_OF_OWN = 5 * PENALTY
"""A candidate's own line is only a correction to the shared function."""
LEAST_PROPENSITY = 0.05
"""The least assumed chance that a model was asked. It bounds the influence of one outcome."""


class Record(NamedTuple):
    """Comparable outcomes as arrays: the candidate that answered each, its reward minus the mean of
    its model and request type, its weight, each candidate's share of the request type's outcomes,
    and each candidate's direction (both: examples, candidates)."""

    texts: Texts
    candidate: Integers
    rewards: Floats
    weights: Floats
    shares: Floats
    directions: Floats


class Gains(NamedTuple):
    """For each example, out of fold: its `expected` and its `observed` gain.

    Up to a constant, the expected gain is the value of the line `words` (BUCKETS) for the text,
    plus `bend` x the square of the value of the line `usual` (BUCKETS).
    """

    expected: Floats
    observed: Floats
    words: Floats
    usual: Floats
    bend: float


def gains(record: Record) -> Gains:
    """The gain of every example, by the method at the head of this module."""
    answered = np.eye(record.shares.shape[1])[record.candidate]
    own = (answered * record.weights[:, None]).T
    usual, usual_line = fit(record.texts, record.rewards, record.weights)
    powers = np.column_stack((np.ones(len(usual)), usual, usual**2))
    curves = [_curve(record, powers, weights) for weights in own]
    lines = [
        fit(record.texts, record.rewards - curve, weights, PENALTY_OF_OWN)
        for (curve, _), weights in zip(curves, own, strict=True)
    ]
    rewards = np.column_stack([a + b for (a, _), (b, _) in zip(curves, lines, strict=True)])
    expected = (record.directions * rewards).sum(axis=1)
    surprise = record.rewards - (answered * rewards).sum(axis=1)
    chance = (answered * _propensities(record, answered)).sum(axis=1)
    direction = (answered * record.directions).sum(axis=1)
    mean = record.directions.mean(axis=0)
    constant, slope, bend = np.column_stack([factors for _, factors in curves]) @ mean
    words = np.column_stack([line for _, line in lines]) @ mean + slope * usual_line
    observed = expected + direction * surprise / chance
    return Gains(expected - constant, observed, words, usual_line, float(bend))


def _curve(record: Record, powers: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The values of the quadratics fitted to the other parts, and the mean of their factors."""
    scale = powers.std(axis=0)
    penalty = np.diag(PENALTY * scale**2)
    scores, factors = np.zeros(len(powers)), np.zeros(powers.shape[1])
    for part in range(PARTS):
        inside = record.texts.parts == part
        weighted = powers[~inside].T * weights[~inside]
        square = weighted @ powers[~inside] + penalty
        found = np.linalg.lstsq(square, weighted @ record.rewards[~inside])[0]
        scores[inside] = powers[inside] @ found
        factors += found / PARTS
    return scores, factors


def _propensities(record: Record, answered: Floats) -> Floats:
    """The probability that a candidate was asked about a text (examples, candidates)."""
    even = np.ones(len(answered))
    ahead = [fit(record.texts, each, even)[0] for each in (answered - record.shares).T[:-1]]
    found = record.shares[:, :-1] + np.column_stack(ahead)
    found = np.column_stack((found, 1.0 - found.sum(axis=1)))
    return np.clip(found, LEAST_PROPENSITY, 1.0)
