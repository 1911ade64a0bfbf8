"""The upper bound of the tokens of a model call, before the call.

A token has at least one byte of text, because every tokenizer in use works on bytes or on longer
pieces. So the UTF-8 bytes of a prompt bound its tokens. This needs no tokenizer, and holds for
models with an unpublished one. For English text the bound is about four times too high. The
difference is released when the call has ended.
"""

from __future__ import annotations

from fleet.money import Tokens

FRAME_TOKENS = 64
"""The tokens of a provider's template around a prompt and its instructions: some 10, with a margin
of four times for longer templates."""


def upper_bound_tokens(prompt: str, instructions: str, max_tokens: int) -> Tokens:
    """A bound on the tokens of a call; `fleet.models.rules.catalogue.upper_bound_nanodollars`
    bounds what they cost, cached or not."""
    read = len(prompt.encode()) + len(instructions.encode()) + FRAME_TOKENS
    return Tokens(read, max_tokens)


LONG_WORD = 16
"""A word has at least one token for each of these bytes."""


def least_tokens(text: str) -> int:
    """A lower bound of the tokens of a text: its words.

    Tokenizers in use split a text at white space first, so no token has two words. A run of
    characters without white space counts as one token for each `LONG_WORD` bytes.
    """
    return sum(map(_least_of_word, text.split()))


class WordCount:
    """The lower bound for a text that arrives in pieces."""

    def __init__(self) -> None:
        self._whole = 0
        self._open = 0
        """The bytes of the last word so far, which the next piece may continue."""

    def add(self, piece: str) -> int:
        """The lower bound of all pieces so far, with the certain tokens of the last word."""
        words = piece.split()
        goes_on = bool(words) and not piece[0].isspace()
        if goes_on:
            self._open += _size(words.pop(0))
        if piece and (words or not goes_on or piece[-1].isspace()):
            self._whole += -(-self._open // LONG_WORD)
            self._open = _size(words.pop()) if words and not piece[-1].isspace() else 0
        self._whole += sum(map(_least_of_word, words))
        return self._whole + self._open // LONG_WORD


def _least_of_word(word: str) -> int:
    return -(-_size(word) // LONG_WORD)


def _size(word: str) -> int:
    return len(word.encode(errors="surrogatepass"))
