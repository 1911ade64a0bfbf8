"""Ridge regression over sketches' buckets, weighted by how rare each bucket is.

Scores are cross-fitted. A checksum of the sketch divides the texts into parts, equal texts
together, and a line fitted to the other parts scores each part. The final line is the mean of these
lines.

    value of a bucket b in a text  = idf(b) / sqrt(sum of idf^2 over the text's buckets)
    idf(b)                         = 1 + ln((1 + n) / (1 + texts with b))
    minimised                      = sum w (y - x c)^2 + penalty |c|^2

The normal equations are solved by conjugate gradients (Hestenes and Stiefel 1952). Few steps are
enough: the penalty makes the system well conditioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidRequest
from fleet.models.rules.difficulty.text_features import BUCKETS, Integers, Sketch

Floats = npt.NDArray[np.float64]

PENALTY = 12.0
STEPS = 20
PARTS = 5


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


class Texts(NamedTuple):
    """The buckets of all texts learned from, which part each text is in, and how rare each bucket
    is among them."""

    buckets: Sequence[Integers]
    parts: Integers
    idf: Floats

    @classmethod
    def of(cls, sketches: Sequence[Sketch]) -> Texts:
        """Raises `InvalidRequest` for too few different texts."""
        parts = np.array([crc32(each.to_bytes()) % PARTS for each in sketches])
        if len(np.unique(parts)) < PARTS:
            raise InvalidRequest(
                "the examples are too few different texts; record more kinds of task"
            )
        buckets = [each.buckets for each in sketches]
        return cls(buckets, parts, inverse_document_frequency(buckets))

    def rows(self, chosen: npt.NDArray[np.bool_]) -> Rows:
        return Rows.of([self.buckets[each] for each in chosen.nonzero()[0].tolist()], self.idf)


def fit(
    texts: Texts, targets: Floats, weights: Floats, penalty: float = PENALTY
) -> tuple[Floats, Floats]:
    """The out-of-fold score of each text, and the mean of the lines' coefficients.

    There is one of `targets`, whose mean is about 0, and of `weights` for each text. Texts of
    weight 0 are scored, but no line is fitted to them.
    """
    scores, coefficients = np.zeros(len(targets)), np.zeros(BUCKETS)
    for part in range(PARTS):
        inside = texts.parts == part
        learned = ~inside & (weights > 0.0)
        if not learned.any():
            continue
        line = ridge(texts.rows(learned), targets[learned], weights[learned], penalty)
        scores[inside] = texts.rows(inside).times(line)
        coefficients += line / PARTS
    return scores, coefficients


def inverse_document_frequency(rows: Sequence[Integers]) -> Floats:
    """How rare each bucket is among the rows; see the head of this module."""
    seen = np.bincount(np.concatenate(rows), minlength=BUCKETS)
    return np.asarray(1.0 + np.log((1 + len(rows)) / (1 + seen)))


def ridge(rows: Rows, targets: Floats, weights: Floats, penalty: float) -> Floats:
    """The coefficients of the line that fits the targets best under the penalty."""
    solution = np.zeros(BUCKETS)
    residual = rows.transposed_times(weights * targets)
    direction, power = residual.copy(), float(residual @ residual)
    for _ in range(STEPS):
        if power == 0.0:
            break
        image = rows.transposed_times(weights * rows.times(direction)) + penalty * direction
        step = power / float(direction @ image)
        solution += step * direction
        residual -= step * image
        before, power = power, float(residual @ residual)
        direction = residual + power / before * direction
    return solution
