"""The most that one model call can take, known before it is made.

A token is at least one byte of text, for every tokenizer in use works on bytes or on longer pieces.
So the UTF-8 bytes of a prompt are a bound on its tokens that needs no tokenizer, and holds for
models whose tokenizer nobody has published. Of English text it is about four times too high; the
difference is given back when the call has ended.
"""

from __future__ import annotations

from fleet.core.prices import Tokens

FRAME_TOKENS = 64
"""What a provider's template puts around a prompt and its instructions: some 10 tokens, doubled
twice for those that say more."""


def worst_tokens(prompt: str, instructions: str, max_tokens: int) -> Tokens:
    """A bound on the tokens of a call; `fleet.core.models.worst_nanodollars` bounds what they cost,
    cached or not."""
    read = len(prompt.encode()) + len(instructions.encode()) + FRAME_TOKENS
    return Tokens(read, max_tokens)


LONG_WORD = 16
"""Bytes of a word up to which it may be a single token."""


def least_tokens(text: str) -> int:
    """A lower bound on the tokens of a text: its words.

    Tokenizers in use split a text at white space first, so that no token has two words. A run of
    characters without white space counts one token for each `LONG_WORD` bytes of it.
    """
    words = text.split()
    longer = (len(word.encode(errors="surrogatepass")) for word in words if len(word) > 5)
    return len(words) + sum((size - 1) // LONG_WORD for size in longer)
