"""The features of a text from which its difficulty is estimated: hashed words and the length.

A text becomes a `Sketch` of 1,025 bytes: one bit for each of 2^13 hash buckets, set if a word or
four letters of a word fall into it, and the length. Order and counts are not kept. The text cannot
be read from a sketch, but a guessed word can be tested against its bucket.

All pieces are hashed at once. With s_i = sum over j < i of byte_j p^j modulo 2^64, the
polynomial hash of the bytes from a to b is (s_b - s_a) p^-a (after Karp and Rabin, "Efficient
randomized pattern-matching algorithms", 1987, with prefix sums in place of rolling).
"""

from __future__ import annotations

import string
from math import log2
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidRequest

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

READ_BYTES = 1200
"""The part of a text that is read. It bounds the time of an estimate."""
BUCKET_BITS = 13
BUCKETS = 1 << BUCKET_BITS
BITMAP_BYTES = BUCKETS // 8
SKETCH_BYTES = BITMAP_BYTES + 1
EARLIER_BYTES = BITMAP_BYTES + 65
"""The earlier version's: after the length came 64 figures of the text's form, now passed over."""
GRAM = 4
LENGTH_STEPS = 16
SHIFT = np.uint64(64 - BUCKET_BITS)
BASE = 0x9E3779B97F4A7C15


def _kind_of_byte() -> bytes:
    """1 for a byte of a word, 2 for one of a number, 0 for what parts them. All bytes outside
    ASCII are letters."""
    letters, digits = string.ascii_letters.encode(), string.digits.encode()
    return bytes(
        1 if each in letters or each > 127 else 2 * (each in digits) for each in range(256)
    )


def _folded_byte() -> bytes:
    """Letters in lower case; all that parts words as one and the same space."""
    return bytes(byte + 32 * (65 <= byte <= 90) if KIND_OF[byte] else 32 for byte in range(256))


def _powers(base: int) -> Hashes:
    return np.array([pow(base, power, 1 << 64) for power in range(READ_BYTES + 1)], np.uint64)


KIND_OF = _kind_of_byte()
FOLDED = _folded_byte()
POWERS = _powers(BASE)
INVERSE_POWERS = _powers(pow(BASE, -1, 1 << 64))


class Sketch(NamedTuple):
    """A text without its words: `buckets` in rising order, and its `length`, 16 log2(bytes + 1)."""

    buckets: Integers
    length: int

    def to_bytes(self) -> bytes:
        """Always `SKETCH_BYTES` bytes."""
        marked = np.zeros(BUCKETS, np.bool_)
        marked[self.buckets] = True
        return np.packbits(marked).tobytes() + bytes([self.length])

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The inverse of `to_bytes`; also reads a sketch of the earlier version. Raises
        `InvalidRequest` for another length."""
        if len(stored) not in (SKETCH_BYTES, EARLIER_BYTES):
            raise InvalidRequest(
                f"a sketch has {SKETCH_BYTES} bytes, not {len(stored)}; "
                "it was made by another version: leave it out"
            )
        bitmap = np.frombuffer(stored, np.uint8, BITMAP_BYTES)
        return cls(np.flatnonzero(np.unpackbits(bitmap)), stored[BITMAP_BYTES])


def sketch(text: str) -> Sketch:
    """The sketch of the first `READ_BYTES` of a text, the same in every process."""
    raw = text[:READ_BYTES].encode("utf-8", "surrogatepass")[:READ_BYTES] or b" "
    return Sketch(_buckets(raw), int(LENGTH_STEPS * log2(len(raw) + 1) + 0.5))


def _buckets(raw: bytes) -> Integers:
    """The buckets of all words, and of each four letters that lie in one with a space around."""
    size = len(raw)
    sums = np.zeros(size + 1, np.uint64)
    (np.frombuffer(raw.translate(FOLDED), np.uint8) * POWERS[:size]).cumsum(out=sums[1:])
    kind = np.frombuffer(raw.translate(KIND_OF), np.uint8)
    edges = (kind[1:] != kind[:-1]).nonzero()[0] + 1
    start, end = np.concatenate(((0,), edges)), np.concatenate((edges, (size,)))
    inside = kind > 0
    start, end = start[inside[start]], end[inside[start]]
    marked = np.zeros(BUCKETS, np.bool_)
    words = (sums[end] - sums[start]) * INVERSE_POWERS[start] >> SHIFT
    marked[words.view(np.int64)] = True
    if size >= GRAM:
        grams = (sums[GRAM:] - sums[:-GRAM]) * INVERSE_POWERS[: size - GRAM + 1] >> SHIFT
        marked[grams.view(np.int64)[inside[1:-2] & inside[2:-1]]] = True
    return marked.nonzero()[0]
