"""Constant tables by which a text is read: kinds of bytes, marker words, powers for hashing."""

from __future__ import annotations

import string
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

READ_BYTES = 1200
"""So much of a text is read: with more an estimate would take over 100 us."""

FOREIGN, OTHER = "foreign", "other"
CLASSES: dict[str, str] = {
    OTHER: "",
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "digit": string.digits,
    "newline": "\n",
    "math": "=+*/^<>|%~",
    "code": "{}[]_`;\\#$&@",
    "comma": ",",
    "colon": ":",
    "period": ".",
    "question": "?",
    "exclamation": "!",
    "quote": "\"'",
    "bracket": "()",
    "hyphen": "-",
    "space": " \t\r",
    FOREIGN: "",
}
MARKERS: dict[str, str] = {
    "negation": "not except never no none false incorrect least cannot without nor neither isn "
    "doesn unlikely",
    "asks what": "what who when where whom",
    "asks which": "which following",
    "asks how": "how why explain describe",
    "reckoning": "calculate compute find determine evaluate solve many much value number total "
    "approximately probability percent equal equals sum average",
    "condition": "if suppose assume given let when then",
    "superlative": "most best always only primarily main likely largest greatest every",
    "numeral": "ii iii iv",
    "choice": "all above both none choices",
    "speaker": "i my me we our you your",
    "person": "he she his her they their him",
    "claim": "statement statements true false correct",
    "formal": "function matrix theorem prime integer group set graph equation polynomial algorithm "
    "code program class return def vector finite ring",
    "article": "the a an of",
    "link": "and or but",
    "being": "is are was were be been",
    "reason": "because therefore thus since although however",
    "modal": "would could should may might must",
}

_MODULO = (1 << 64) - 1
_BASE = 0x9E3779B97F4A7C15
_MARKER_SHIFT = np.uint64(48)


def _bytes_of(letters: str) -> list[int]:
    return list(letters.encode("ascii"))


def _class_of_byte() -> bytes:
    """The number of each byte's class; all bytes outside ASCII are foreign letters."""
    table = bytearray(256)
    for number, (name, letters) in enumerate(CLASSES.items()):
        for byte in range(128, 256) if name == FOREIGN else _bytes_of(letters):
            table[byte] = number
    return bytes(table)


def _kind_of_byte() -> bytes:
    """1 for a byte of a word, 2 for one of a number, 0 for what parts them."""
    table = bytearray(256)
    for byte in (*_bytes_of(string.ascii_letters), *range(128, 256)):
        table[byte] = 1
    for byte in _bytes_of(string.digits):
        table[byte] = 2
    return bytes(table)


def _folded_byte() -> bytes:
    """Letters in lower case; all that parts words as one and the same space."""
    return bytes(byte + 32 * (65 <= byte <= 90) if KIND_OF[byte] else 32 for byte in range(256))


def _powers(base: int) -> Hashes:
    powers = [1]
    for _ in range(READ_BYTES):
        powers.append(powers[-1] * base & _MODULO)
    return np.array(powers, np.uint64)


def marker_slots(hashes: Hashes) -> npt.NDArray[np.int64]:
    """Where in `MARKER_OF` the hashes of words look."""
    return (hashes >> _MARKER_SHIFT).view(np.int64)


def _word_hashes(words: Iterable[str]) -> Hashes:
    found = (
        sum(byte * int(power) for byte, power in zip(word.encode(), POWERS, strict=False))
        for word in words
    )
    return np.array([each & _MODULO for each in found], np.uint64)


def _marker_of_hash() -> npt.NDArray[np.uint8]:
    """By the first 16 bits of a word's hash: the number of its group of markers from 1, or 0.

    A later group wins a word, or a bucket, that an earlier one has too.
    """
    table = np.zeros(1 << 16, np.uint8)
    for number, words in enumerate(MARKERS.values(), 1):
        table[marker_slots(_word_hashes(words.split()))] = number
    return table


CLASS_OF = _class_of_byte()
KIND_OF = _kind_of_byte()
FOLDED = _folded_byte()
POWERS = _powers(_BASE)
INVERSE_POWERS = _powers(pow(_BASE, -1, 1 << 64))
MARKER_OF = _marker_of_hash()
