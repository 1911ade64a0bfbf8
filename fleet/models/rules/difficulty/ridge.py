"""Ridge regression over sketches' buckets, weighted by how rare each bucket is.

    value of a bucket b in a text  = idf(b) / sqrt(sum of idf^2 over the text's buckets)
    idf(b)                         = 1 + ln((1 + n) / (1 + texts with b))
    minimised                      = sum w (y - mean - x c)^2 + PENALTY |c|^2

The normal equations are solved by conjugate gradients (Hestenes and Stiefel 1952). Few steps are
enough: the penalty makes the system well conditioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.models.rules.difficulty.text_features import BUCKETS, Integers

Floats = npt.NDArray[np.float64]

PENALTY = 12.0
STEPS = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Many sketches' buckets end to end: row i is `buckets[starts[i]:starts[i] + sizes[i]]`."""

    buckets: Integers
    starts: Integers
    sizes: Integers
    norms: Floats
    idf: Floats

    @classmethod
    def of(cls, rows: Sequence[Integers], idf: Floats) -> Rows:
        """Rows whose buckets weigh `idf`. A text without any word is all of zeros."""
        # Bucket 0 stands for what an empty row would hold: reduceat cannot sum nothing.
        filled = [row if len(row) else np.zeros(1, np.int64) for row in rows]
        sizes = np.array([len(row) for row in filled])
        starts = np.concatenate(((0,), sizes.cumsum()[:-1]))
        buckets = np.concatenate(filled)
        norms = np.sqrt(np.add.reduceat(idf[buckets] ** 2, starts))
        norms[[len(row) == 0 for row in rows]] = np.inf
        return cls(buckets, starts, sizes, norms, idf)

    def times(self, coefficients: Floats) -> Floats:
        """Each row's sum of its values times the coefficients of its buckets."""
        return np.add.reduceat((self.idf * coefficients)[self.buckets], self.starts) / self.norms

    def transposed_times(self, of_row: Floats) -> Floats:
        """Each bucket's sum of its values times a number of the row."""
        spread = np.repeat(of_row / self.norms, self.sizes)
        return self.idf * np.bincount(self.buckets, spread, BUCKETS)


class Line(NamedTuple):
    """A fitted line: `mean` + row times `coefficients`."""

    coefficients: Floats
    mean: float


def inverse_document_frequency(rows: Sequence[Integers]) -> Floats:
    """How rare each bucket is among the rows; see the head of this module."""
    seen = np.bincount(np.concatenate(rows), minlength=BUCKETS)
    return np.asarray(1.0 + np.log((1 + len(rows)) / (1 + seen)))


def ridge(rows: Rows, targets: Floats, weights: Floats) -> Line:
    """The line that fits the targets best under the penalty."""
    mean = float(np.average(targets, weights=weights))
    solution = np.zeros(BUCKETS)
    residual = rows.transposed_times(weights * (targets - mean))
    direction, power = residual.copy(), float(residual @ residual)
    for _ in range(STEPS):
        if power == 0.0:
            break
        image = rows.transposed_times(weights * rows.times(direction)) + PENALTY * direction
        step = power / float(direction @ image)
        solution += step * direction
        residual -= step * image
        before, power = power, float(residual @ residual)
        direction = residual + power / before * direction
    return Line(solution, mean)
