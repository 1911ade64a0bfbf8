"""The thoughts that a model writes into its answer, between tags, where its server leaves them in.

An answer is split once it has come in as a whole: a stream cuts a tag anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

TAGS = ("<think>", "</think>")
"""As DeepSeek, Qwen and most others write them."""

BETWEEN = "\n\n"
"""What stands between pieces of text that thoughts have parted."""


class Answer(NamedTuple):
    """What a model has written: the text of its answer, and the thoughts among it."""

    text: str
    thoughts: str


def split(written: str, tags: tuple[str, str] = TAGS) -> Answer:
    """The text and the thoughts of all that was written.

    Thoughts reach from an opening tag to the next closing one. An opening tag that is never closed
    is left out and what follows it is text, as is a closing tag that was never opened.
    """
    opening, closing = tags
    texts, thoughts = [], []
    rest = written
    while rest:
        text, opened, rest = rest.partition(opening)
        if opened:
            thought, closed, after = rest.partition(closing)
            if closed:
                thoughts.append(thought)
                texts.append(text)
                rest = after
                continue
            text += rest
            rest = ""
        texts.append(text)
    return Answer(BETWEEN.join(text for text in texts if text), "".join(thoughts))
