"""Whether an estimate predicts where a better model pays, on outcomes that were held out.

    gain = 12 x the mean of (rank - 1/2) (observed gain - its mean)

The rank is the share of estimates that are lower; equal ones share the middle rank. If the gain
rises linearly with the rank, the figure is its rise from the easiest task to the most difficult
one, in parts of a success. It is also proportional to the advantage of sorting by the estimate over
a random order, averaged over all shares of tasks that may go to the better model. A random order
has about 0.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from fleet.models.rules.difficulty.ridge import Floats

SURE = 2.0
"""Standard errors above 0 that are evidence: chance alone gets there once in 44 trials."""


class Evidence(NamedTuple):
    """The gain by an estimate and its standard error."""

    gain: float
    error: float

    @property
    def beats_chance(self) -> bool:
        return self.gain > 0.0 and self.gain > SURE * self.error


def evidence(estimates: Floats, observed: Floats) -> Evidence:
    """The evidence for an estimate of each task, from the observed gain of each."""
    return _gain(ranked(estimates) - 0.5, observed)


def _gain(ranks: Floats, observed: Floats) -> Evidence:
    parts = 12.0 * ranks * (observed - observed.mean())
    return Evidence(float(parts.mean()), float(parts.std() / sqrt(len(parts))))


def ranked(values: Floats) -> Floats:
    """The share of values that are lower, with half of the equal ones, 0 to 1."""
    ordered = np.sort(values)
    lower = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(lower / (2 * len(values)))


def parts_of(first: Floats, second: Floats, observed: Floats) -> tuple[float, float]:
    """The weights of two estimates, each in units of its standard deviation.

    The first has all the weight if it is significantly better. Otherwise least squares on the
    observed gain give the weights, none under 0.
    """
    if _gain(ranked(first) - ranked(second), observed).beats_chance:
        return 1.0, 0.0
    columns = np.column_stack([_standard(each) for each in (first, second)])
    gains = observed - observed.mean()
    both, *_ = np.linalg.lstsq(columns, gains, rcond=None)
    if (both >= 0.0).all() and both.any():
        return float(both[0]), float(both[1])
    alone = columns.T @ gains
    return (1.0, 0.0) if alone[0] >= alone[1] else (0.0, 1.0)


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / (values.std() or 1.0))
