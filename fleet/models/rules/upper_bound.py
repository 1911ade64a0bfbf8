"""The most that one model call can take, known before it is made.

A token is at least one byte of text, for every tokenizer in use works on bytes or on longer pieces.
So the UTF-8 bytes of a prompt are a bound on its tokens that needs no tokenizer, and holds for
models whose tokenizer nobody has published. Of English text it is about four times too high; the
difference is given back when the call has ended.
"""

from __future__ import annotations

from fleet.money import Tokens

FRAME_TOKENS = 64
"""What a provider's template puts around a prompt and its instructions: some 10 tokens, doubled
twice for those that say more."""


def upper_bound_tokens(prompt: str, instructions: str, max_tokens: int) -> Tokens:
    """A bound on the tokens of a call; `fleet.models.rules.catalogue.upper_bound_nanodollars`
    bounds what they cost, cached or not."""
    read = len(prompt.encode()) + len(instructions.encode()) + FRAME_TOKENS
    return Tokens(read, max_tokens)


LONG_WORD = 16
"""Bytes of a word for each token that it takes at least."""


def least_tokens(text: str) -> int:
    """A lower bound on the tokens of a text: its words.

    Tokenizers in use split a text at white space first, so that no token has two words. A run of
    characters without white space counts one token for each `LONG_WORD` bytes of it.
    """
    return sum(map(_least_of_word, text.split()))


class WordCount:
    """The same of a text that comes in piece by piece."""

    def __init__(self) -> None:
        self._whole = 0
        self._open = 0
        """Bytes of the last word so far: it may go on with the next piece."""

    def add(self, piece: str) -> int:
        """The least tokens of all pieces so far; of the last word those that it has for certain."""
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
