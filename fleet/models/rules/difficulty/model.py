"""The learned model that estimates from a text how much its task needs a better model.

Stored, a model is a header and its arrays end to end, in little-endian order:

    8 bytes  FLEETDIF        1 byte  version        4 bytes  checksum of the rest, which is
    rarity, words and usual (BUCKETS each), halves; bend (1), length (1) and shares, doubles
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidConfig
from fleet.models.rules.difficulty.text_features import BUCKETS, Sketch, sketch

Floats = npt.NDArray[np.float64]

NAME = b"FLEETDIF"
VERSION = 2
HEADER = struct.Struct("<8sBI")
SHARES = np.linspace(0.0, 1.0, 65)
HALVES_BYTES = 3 * 2 * BUCKETS
BODY_BYTES = HALVES_BYTES + 8 * (2 + len(SHARES))


@dataclass(frozen=True, slots=True)
class DifficultyModel:
    """A function of a text, and the quantiles of its values.

        n     = sqrt(sum of rarity)
        value = sum of words / n + bend x (sum of usual / n)^2 + length x its length

    The sums are over the text's buckets. `buckets` (BUCKETS, 3) has for each bucket its squared
    rarity, and what it adds to the value and to how well such texts usually end, as halves
    hold it. `shares` are the values that each of `SHARES` of the texts learned from lies below.
    """

    buckets: npt.NDArray[np.float32]
    bend: float
    length: float
    shares: Floats

    def estimate(self, text: str | Sketch) -> float:
        """The share of texts on which better models gain less than on this one, 0 to 1."""
        given = sketch(text) if isinstance(text, str) else text
        squared, words, usual = self.buckets.take(given.buckets, axis=0).sum(axis=0).tolist()
        bent = self.bend * usual**2 / (squared or 1.0)
        return self.share(words / (squared**0.5 or 1.0) + bent + self.length * given.length)

    def share(self, value: float) -> float:
        """The share of a value; a half where no text differs from another."""
        if self.shares[0] == self.shares[-1]:
            return 0.5
        return float(np.interp(value, self.shares, SHARES))

    def to_bytes(self) -> bytes:
        """The stored form, 50 kB."""
        figures = np.concatenate(((self.bend, self.length), self.shares))
        body = self.buckets.astype("<f2").tobytes() + figures.astype("<f8").tobytes()
        return HEADER.pack(NAME, VERSION, crc32(body)) + body

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `InvalidConfig` for bytes that are not such a model."""
        body = _opened(stored)
        buckets = np.frombuffer(body, "<f2", 3 * BUCKETS).reshape(BUCKETS, 3)
        bend, length, *shares = np.frombuffer(body, "<f8", offset=HALVES_BYTES).tolist()
        return cls(buckets.astype(np.float32), bend, length, np.array(shares))


def is_of_an_earlier_version(stored: bytes) -> bool:
    """Whether these bytes are a model that an earlier version of Fleet has trained."""
    version = stored.removeprefix(NAME)[:1]
    return stored.startswith(NAME) and b"" < version < bytes([VERSION])


def _opened(stored: bytes) -> bytes:
    """The body, where name, version, length and checksum are right."""
    if len(stored) < HEADER.size or not stored.startswith(NAME):
        raise InvalidConfig("these bytes are no difficulty model; train one: fleet models train")
    _, version, checksum = HEADER.unpack_from(stored)
    if version != VERSION:
        raise InvalidConfig(
            f"the difficulty model has version {version}, this Fleet reads version {VERSION}; "
            "train it anew: fleet models train"
        )
    body = stored[HEADER.size :]
    if len(body) != BODY_BYTES or crc32(body) != checksum:
        raise InvalidConfig("the difficulty model is damaged; train it anew: fleet models train")
    return body
