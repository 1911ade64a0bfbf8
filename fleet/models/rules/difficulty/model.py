"""The learned model that tells from a text how much its task needs a better model.

Stored, a model is a header and its arrays end to end, in little-endian order:

    8 bytes  FLEETDIF        1 byte  version      1 byte  views      2 bytes  trees
    4 bytes  checksum of the rest, which is
    weights (1 + views, BUCKETS) and the shares, halves; means and mix, doubles;
    the trees' columns, bytes; their thresholds and leaves, halves
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any, Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidConfig
from fleet.models.rules.difficulty.text_features import BUCKETS, Sketch, sketch
from fleet.models.rules.difficulty.trees import DEPTH, LEAVES, Floats, Forest

NAME = b"FLEETDIF"
VERSION = 1
HEADER = struct.Struct("<8sBBHI")
SHARES = np.linspace(0.0, 1.0, 65)
MOST_BYTES = 64 * 1024

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DifficultyModel:
    """What was learned. Every number is one that a stored model can hold.

    `weights` (1 + views, BUCKETS) has for each bucket its squared rarity, and what it adds to the
    score of each view. `means` and `mix` belong to the views (see `fitting.fit`).
    `forest` takes the views' scores, their mix, and the figures of the form. `shares` are the
    forest's values that each of `SHARES` of the texts learned from lies below.
    """

    weights: Weights
    means: Floats
    mix: Floats
    forest: Forest
    shares: Floats

    def estimate(self, text: str | Sketch) -> float:
        """The share of texts on which better models gain less than on this one, 0 to 1."""
        given = sketch(text) if isinstance(text, str) else text
        return self.share(self.forest.value(self._row(given)))

    def share(self, value: float) -> float:
        """The share of a value of the forest; a half where no text differs from another."""
        if self.shares[0] == self.shares[-1]:
            return 0.5
        return float(np.interp(value, self.shares, SHARES))

    def _row(self, given: Sketch) -> Floats:
        """The views' scores, their mix, the figures: a row of what the trees were grown from."""
        squared, *sums = self.weights.T.take(given.buckets, axis=0).sum(axis=0).tolist()
        norm = squared**0.5 or 1.0
        scores = [mean + each / norm for mean, each in zip(self.means, sums, strict=True)]
        mixed = sum(part * score for part, score in zip(self.mix, scores, strict=True))
        return np.concatenate((scores, (mixed,), given.figures))

    def to_bytes(self) -> bytes:
        """The stored form, at most 64 KiB with one or two views."""
        arrays = zip(self._arrays(), _layout(len(self.means), self._trees), strict=True)
        body = b"".join(array.astype(kind).tobytes() for array, (kind, _) in arrays)
        return HEADER.pack(NAME, VERSION, len(self.means), self._trees, crc32(body)) + body

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `InvalidConfig` for bytes that are not such a model."""
        views, trees, body = _opened(stored)
        arrays, at = [], 0
        for kind, shape in _layout(views, trees):
            array = np.frombuffer(body, kind, prod(shape), at).reshape(shape)
            at += array.nbytes
            arrays.append(array)
        weights, shares, means, mix, columns, thresholds, leaves = arrays
        return cls(
            # A bucket's weights side by side: they are read together.
            np.asfortranarray(weights, np.float32),
            means.astype(np.float64),
            mix.astype(np.float64),
            Forest(
                columns.astype(np.int64), thresholds.astype(np.float64), leaves.astype(np.float64)
            ),
            shares.astype(np.float64),
        )

    @property
    def _trees(self) -> int:
        return len(self.forest.leaves)

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        return self.weights, self.shares, self.means, self.mix, *self.forest


def _layout(views: int, trees: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The type and the shape of each stored array."""
    return (
        ("<f2", (1 + views, BUCKETS)),
        ("<f2", SHARES.shape),
        ("<f8", (views,)),
        ("<f8", (views,)),
        ("<u1", (trees, DEPTH)),
        ("<f2", (trees, DEPTH)),
        ("<f2", (trees, LEAVES)),
    )


def _opened(stored: bytes) -> tuple[int, int, bytes]:
    """Views, trees and body, where name, version, length, checksum and columns are right."""
    if len(stored) < HEADER.size or not stored.startswith(NAME):
        raise InvalidConfig("these bytes are no difficulty model; train one: fleet models train")
    _, version, views, trees, checksum = HEADER.unpack_from(stored)
    if version != VERSION:
        raise InvalidConfig(
            f"the difficulty model has version {version}, this Fleet reads version {VERSION}; "
            "train it anew: fleet models train"
        )
    body = stored[HEADER.size :]
    size = sum(np.dtype(kind).itemsize * prod(shape) for kind, shape in _layout(views, trees))
    if len(body) != size or crc32(body) != checksum:
        raise InvalidConfig("the difficulty model is damaged; train it anew: fleet models train")
    return views, trees, body
