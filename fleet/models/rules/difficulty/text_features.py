"""What the difficulty of a text is told from: which hashed pieces occur, and how it is built.

A text becomes a `Sketch` of little more than 1 KiB: a bit for each of 2^13 buckets that a word
or four letters of a word fall into, without order and count, and some sixty figures of its form.
The text cannot be read from it, though who guesses a word may test whether its bucket is set.

All pieces are hashed at once. With s_i = sum over j < i of byte_j p^j modulo 2^64, the
polynomial hash of the bytes from a to b is (s_b - s_a) p^-a (after Karp and Rabin, "Efficient
randomized pattern-matching algorithms", 1987, with prefix sums in place of rolling).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidRequest
from fleet.models.rules.difficulty.text_tables import (
    CLASS_OF,
    CLASSES,
    FOLDED,
    INVERSE_POWERS,
    KIND_OF,
    MARKER_OF,
    MARKERS,
    POWERS,
    READ_BYTES,
    marker_slots,
)

Bits = npt.NDArray[np.bool_]
Small = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

BUCKET_BITS = 13
BUCKETS = 1 << BUCKET_BITS
BITMAP_BYTES = BUCKETS // 8
SHIFT = np.uint64(64 - BUCKET_BITS)
GRAM = 4
LONG_WORD, SHORT_WORD = 8, 3
LOG_STEPS, SHARE_STEPS = 16, 255
SENTENCE_WORDS = 40
WORD_LETTERS = 12

CLASS_NUMBER = {name: number for number, name in enumerate(CLASSES)}
LOWER, UPPER, DIGIT, NEWLINE, COMMA = (
    CLASS_NUMBER[name] for name in ("lower", "upper", "digit", "newline", "comma")
)
WORDLY = [CLASS_NUMBER[name] for name in ("lower", "upper", "digit", "foreign")]
ENDS = [CLASS_NUMBER[name] for name in ("period", "question", "exclamation")]
FORMAL = [CLASS_NUMBER[name] for name in ("math", "code")]
ARTICLE = list(MARKERS).index("article")
ITEM_MARKS = bytes(byte in b".):" for byte in range(256))

COUNTS = (
    *("bytes", "bytes before the list", "bytes of the list", "longest item", "shortest item"),
    *("spread of items", "digits in the list", "words", "words before the list", "items"),
    *("shouted words", "sentences", "distinct words"),
    *CLASSES,
    *MARKERS,
)
SHARES = (
    *("lower case", "upper case", "digits", "formal signs", "digits in the list", "word length"),
    *("long words", "short words", "words per sentence", "ends as a question", "ends open"),
    *("has a blank", "distinct words", "words per sentence before the list", "commas"),
    *("articles", "markers"),
)
FIGURES = len(COUNTS) + len(SHARES)


class Sketch(NamedTuple):
    """A text without its words: `buckets` in rising order, and `FIGURES` figures of its form."""

    buckets: Integers
    figures: Small

    def to_bytes(self) -> bytes:
        """Always `BITMAP_BYTES + FIGURES` bytes."""
        marked = np.zeros(BUCKETS, np.bool_)
        marked[self.buckets] = True
        return np.packbits(marked).tobytes() + self.figures.tobytes()

    @classmethod
    def from_bytes(cls, stored: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `InvalidRequest` for another length."""
        if len(stored) != BITMAP_BYTES + FIGURES:
            raise InvalidRequest(
                f"a sketch has {BITMAP_BYTES + FIGURES} bytes, not {len(stored)}; "
                "it was made by another version: leave it out"
            )
        read = np.frombuffer(stored, np.uint8)
        return cls(np.flatnonzero(np.unpackbits(read[:BITMAP_BYTES])), read[BITMAP_BYTES:])


def sketch(text: str) -> Sketch:
    """The sketch of the first `READ_BYTES` of a text, the same in every process."""
    raw = text[:READ_BYTES].encode("utf-8", "surrogatepass")[:READ_BYTES] or b" "
    words = _words(raw)
    return Sketch(_buckets(words), _figures(raw, words))


class _Words(NamedTuple):
    """Where words and numbers start and end, the hash of each, and what they are made from."""

    start: Integers
    end: Integers
    hashes: npt.NDArray[np.uint64]
    sums: npt.NDArray[np.uint64]
    inside: Bits


def _words(raw: bytes) -> _Words:
    size = len(raw)
    kind = np.frombuffer(raw.translate(KIND_OF), np.uint8)
    edges = (kind[1:] != kind[:-1]).nonzero()[0] + 1
    start, end = np.concatenate(((0,), edges)), np.concatenate((edges, (size,)))
    inside = kind > 0
    kept = inside[start]
    start, end = start[kept], end[kept]
    sums = np.zeros(size + 1, np.uint64)
    folded = np.frombuffer(raw.translate(FOLDED), np.uint8)
    (folded * POWERS[:size]).cumsum(out=sums[1:])
    return _Words(start, end, (sums[end] - sums[start]) * INVERSE_POWERS[start], sums, inside)


def _buckets(words: _Words) -> Integers:
    """The buckets of all words, and of each four letters that lie in one with a space around."""
    sums, inside = words.sums, words.inside
    marked = np.zeros(BUCKETS, np.bool_)
    marked[(words.hashes >> SHIFT).view(np.int64)] = True
    if len(inside) >= GRAM:
        grams = (sums[GRAM:] - sums[:-GRAM]) * INVERSE_POWERS[: len(inside) - GRAM + 1] >> SHIFT
        marked[grams.view(np.int64)[inside[1:-2] & inside[2:-1]]] = True
    return marked.nonzero()[0]


def _figures(raw: bytes, words: _Words) -> Small:
    """The figures of the form: counts on a logarithmic scale, then shares, each up to 255."""
    form = _form(raw, words)
    figures = np.array(_counts(form) + _shares(form))
    figures[: len(COUNTS)] = LOG_STEPS * np.log2(figures[: len(COUNTS)] + 1)
    figures[len(COUNTS) :] *= SHARE_STEPS
    return np.minimum(figures + 0.5, 255).astype(np.uint8)


class _Form(NamedTuple):
    """What is counted of a text. `before` and what goes by it is of the text before its list."""

    size: int
    before: int
    items: int
    longest: int
    shortest: int
    listed_digits: int
    words: int
    words_before: int
    distinct: int
    shouted: int
    long: int
    short: int
    sentences: int
    of_class: list[int]
    of_marker: list[int]
    last: bytes
    blank: bool


def _form(raw: bytes, words: _Words) -> _Form:
    classes = np.frombuffer(raw.translate(CLASS_OF), np.uint8)
    of_class = np.bincount(classes, minlength=len(CLASSES)).tolist()
    markers = MARKER_OF[marker_slots(words.hashes)]
    before, items, longest, shortest = _items(raw, classes, words.inside)
    length = words.end - words.start
    upper = classes == UPPER
    ordered = np.sort(words.hashes)
    return _Form(
        size=len(raw),
        before=before,
        items=items,
        longest=longest,
        shortest=shortest,
        listed_digits=_count(classes[before:] == DIGIT),
        words=len(length),
        words_before=int(words.start.searchsorted(before)),
        distinct=_count(ordered[1:] != ordered[:-1]) + (len(ordered) > 0),
        shouted=_count(upper[words.start] & upper[words.end - 1] & (length > 1)),
        long=_count(length >= LONG_WORD),
        short=_count(length <= SHORT_WORD),
        sentences=sum(of_class[each] for each in ENDS) + 1,
        of_class=of_class,
        of_marker=np.bincount(markers, minlength=len(MARKERS) + 1).tolist()[1:],
        last=raw[:before].rstrip()[-1:],
        blank=b"__" in raw,
    )


def _count(mask: Bits) -> int:
    return int(np.count_nonzero(mask))


def _counts(form: _Form) -> tuple[int, ...]:
    """In the order of `COUNTS`."""
    return (
        *(form.size, form.before, form.size - form.before),
        *(form.longest, form.shortest, form.longest - form.shortest, form.listed_digits),
        *(form.words, form.words_before, form.items, form.shouted, form.sentences, form.distinct),
        *form.of_class,
        *form.of_marker,
    )


def _shares(form: _Form) -> tuple[float, ...]:
    """In the order of `SHARES`."""
    size, words, of_class = form.size, form.words or 1, form.of_class
    return (
        *(of_class[LOWER] / size, of_class[UPPER] / size, of_class[DIGIT] / size),
        sum(of_class[each] for each in FORMAL) / size,
        form.listed_digits / (size - form.before + 1),
        sum(of_class[each] for each in WORDLY) / words / WORD_LETTERS,
        *(form.long / words, form.short / words),
        form.words / form.sentences / SENTENCE_WORDS,
        *(form.last == b"?", form.last == b":", form.blank),
        form.distinct / words,
        form.words_before / form.sentences / SENTENCE_WORDS,
        *(of_class[COMMA] / words, form.of_marker[ARTICLE] / words),
        sum(form.of_marker[:ARTICLE]) / words,
    )


def _items(raw: bytes, classes: Small, inside: Bits) -> tuple[int, int, int, int]:
    """Bytes before the first list item, the items, and the longest and shortest item's bytes.

    An item is a line that begins as `A.`, `1)` or `a:` do. The last one counts only alone: what
    comes after the list would count as its part.
    """
    size = len(raw)
    lines = (classes[:-2] == NEWLINE).nonzero()[0] + 1
    marks = np.frombuffer(raw.translate(ITEM_MARKS), np.bool_)
    items = lines[marks[lines + 1] & inside[lines]].tolist()
    if not items:
        return size, 0, 0, 0
    lengths = [end - start for start, end in pairwise(items)]
    lengths = lengths or [size - items[0]]
    return items[0], len(items), max(lengths), min(lengths)
