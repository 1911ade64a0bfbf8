"""Splits thoughts from the text of an answer, for servers that leave them there between tags.

An answer is split once it is complete, because a stream may cut a tag anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

TAGS = ("<think>", "</think>")
"""The tags of DeepSeek, Qwen and most others."""

BETWEEN = "\n\n"
"""The separator of texts that thoughts have divided."""


class SplitAnswer(NamedTuple):
    """The text of an answer, and the thoughts in it."""

    text: str
    thoughts: str


def split(written: str, tags: tuple[str, str] = TAGS) -> SplitAnswer:
    """Split an answer into text and thoughts.

    Thoughts go from an opening tag to the next closing tag. An opening tag that is never closed is
    dropped and the rest is text. A closing tag that was never opened is text.
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
    return SplitAnswer(BETWEEN.join(text for text in texts if text), "".join(thoughts))
