"""What each candidate model makes of each text, though every text was answered by one alone.

Every candidate has an outcome model of its own, learned from the tasks that it answered. They
share what all candidates' outcomes say: a line and trees for how much better or worse than usual a
text ends, whichever model answers it; a candidate's trees correct that by its own outcomes. The
gain of a text is how much better the better models are expected to do on it than the worse ones:

    gain(x)  = sum over candidates m of direction(m) p_m(x)
    direction(m) is proportional to n_m (q_m - mean q), with the positive ones adding up to 1

p_m(x) is m's expected reward, as it differs from m's mean on the request type; q_m is the quality
that the fleet believes of m there, and n_m how many of its outcomes are on record. Of two models
the gain is the better one's expected reward less the other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fleet.models.rules.difficulty.fitting import Lines, figures_of, fit_forests, fit_lines
from fleet.models.rules.difficulty.ridge import Floats
from fleet.models.rules.difficulty.text_features import Integers, Sketch

SHARED_TREES = 40
OWN_TREES = 30
LEAST_PROPENSITY = 0.05
"""A model is taken to have had at least this chance to answer, or one outcome might say it all."""


class Record(NamedTuple):
    """Comparable outcomes as arrays: the candidate that answered each, its reward less the mean of
    its kind (model and request type), what it weighs, the share that each candidate has of its
    request type's outcomes, and the direction of each candidate (examples, candidates)."""

    sketches: Sequence[Sketch]
    candidate: Integers
    rewards: Floats
    weights: Floats
    shares: Floats
    directions: Floats

    @property
    def answered(self) -> Floats:
        """1 where a candidate answered, else 0 (examples, candidates)."""
        return np.eye(self.shares.shape[1])[self.candidate]


class Gains(NamedTuple):
    """Of each example out of fold: its `expected` gain, and what it was `observed` to be, which is
    right on average and far off for each single one. `lines` are of the success of the better
    models and of the worse ones."""

    expected: Floats
    observed: Floats
    lines: Lines


def gains(record: Record, parts: Integers, rarity: Floats, rng: np.random.Generator) -> Gains:
    """Learn the candidates' outcome models, and tell every example's gain by them.

    What was observed corrects what was expected by the one answer that was given, the more the
    seldomer that candidate is asked about such a text (doubly robust: J. Robins, A. Rotnitzky and
    L. Zhao, 1994). So a record in which some policy has sent the difficult texts to one model is
    judged as if lots had been drawn.
    """
    own = record.answered * record.weights[:, None]
    columns = np.column_stack((record.weights, own))
    rewards = np.tile(record.rewards[:, None], columns.shape[1])
    lines = fit_lines(record.sketches, rewards, columns, parts, rarity)
    expected = _expected(record, lines.scores, own, parts, rng)
    gain = (record.directions * expected).sum(axis=1)
    rows = np.arange(len(gain))
    surprise = record.rewards - expected[rows, record.candidate]
    chance = _propensities(record, parts, rarity)[rows, record.candidate]
    observed = gain + record.directions[rows, record.candidate] * surprise / chance
    return Gains(gain, observed, _of_better_and_worse(lines, record.directions.mean(axis=0)))


def _expected(
    record: Record, scores: Floats, own: Floats, parts: Integers, rng: np.random.Generator
) -> Floats:
    """The reward of each candidate on each text, less its mean (examples, candidates)."""
    table = np.column_stack((scores, figures_of(record.sketches)))
    _, shared = fit_forests(table, record.rewards, record.weights, parts, SHARED_TREES, rng)
    table = np.column_stack((shared, table))
    told = [
        fit_forests(table, record.rewards, weights, parts, OWN_TREES, rng)[1] for weights in own.T
    ]
    return np.column_stack(told)


def _propensities(record: Record, parts: Integers, rarity: Floats) -> Floats:
    """How probable it was that a candidate was asked about a text (examples, candidates)."""
    surprise = (record.answered - record.shares)[:, :-1]
    weights = np.ones(surprise.shape)
    found = record.shares[:, :-1] + fit_lines(
        record.sketches, surprise, weights, parts, rarity
    ).scores
    found = np.column_stack((found, 1.0 - found.sum(axis=1)))
    return np.clip(found, LEAST_PROPENSITY, 1.0)


def _of_better_and_worse(lines: Lines, direction: Floats) -> Lines:
    """The candidates' own lines put together to two, which a stored model has room for."""
    sides = np.column_stack((np.maximum(direction, 0.0), np.maximum(-direction, 0.0)))
    return Lines(
        lines.scores[:, 1:] @ sides, lines.coefficients[:, 1:] @ sides, lines.means[1:] @ sides
    )
