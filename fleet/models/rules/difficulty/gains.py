"""How much better the better models do on each text, though every text was answered by one alone.

The gain of a text is what the better models are expected to win on it over the worse ones. Of two
models it is the better one's expected reward less the other's:

    gain(x)      = sum over candidates m of direction(m) p_m(x)
    direction(m) is proportional to n_m (q_m - mean q), with the positive ones adding up to 1

p_m(x) is m's expected reward, as it differs from m's mean on the request type; q_m is the quality
that the fleet believes of m there, and n_m how many of its outcomes are on record.

What any candidate's outcomes say is shared: u(x) is how much better than usual a text ends, whoever
answers it. Each candidate's p has its own square of u, for what all solve and what all fail need no
better model, and a line of its own over the words for what is left over:

    p_m(x)       = a_m + b_m u(x) + c_m u(x)^2 + line_m(x)

The one answer to each text, of candidate a with reward r, corrects what was expected, the more the
seldomer a is asked about such a text:

    observed(x)  = gain(x) + direction(a) (r - p_a(x)) / chance(a, x)

It is right on average and far off for each single text (doubly robust: J. Robins, A. Rotnitzky and
L. Zhao, 1994). So a record in which some policy has sent the difficult texts to one model is judged
as if lots had been drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fleet.models.rules.difficulty.ridge import PARTS, PENALTY, Floats, Texts, fit
from fleet.models.rules.difficulty.text_features import Integers

PENALTY_OF_OWN = 5 * PENALTY
"""A candidate's own line only corrects what the others' outcomes say too."""
LEAST_PROPENSITY = 0.05
"""A model is taken to have had at least this chance to answer, or one outcome might say it all."""


class Record(NamedTuple):
    """Comparable outcomes as arrays: the candidate that answered each, its reward less the mean of
    its kind (model and request type), what it weighs, the share that each candidate has of its
    request type's outcomes, and the direction of each candidate (examples, candidates)."""

    texts: Texts
    candidate: Integers
    rewards: Floats
    weights: Floats
    shares: Floats
    directions: Floats


class Gains(NamedTuple):
    """Of each example out of fold: its `expected` gain, and what it was `observed` to be.

    The expected gain, but for a constant, is what the line `words` (BUCKETS) says of a text, and
    `bend` x the square of what the line `usual` (BUCKETS) does.
    """

    expected: Floats
    observed: Floats
    words: Floats
    usual: Floats
    bend: float


def gains(record: Record) -> Gains:
    """Learn every example's gain, as the head of this module says."""
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
    """What the squares of the other parts say of each text, and the mean of their factors."""
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
    """How probable it was that a candidate was asked about a text (examples, candidates)."""
    even = np.ones(len(answered))
    ahead = [fit(record.texts, each, even)[0] for each in (answered - record.shares).T[:-1]]
    found = record.shares[:, :-1] + np.column_stack(ahead)
    found = np.column_stack((found, 1.0 - found.sum(axis=1)))
    return np.clip(found, LEAST_PROPENSITY, 1.0)
