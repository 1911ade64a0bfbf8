"""Text that is not Unicode: half a surrogate pair, which JSON can spell and UTF-8 cannot.

Models write it where a character was cut, clients pass it on, and whatever encodes it later fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_whole(text: str) -> bool:
    """Whether the text can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def made_whole(text: str) -> str:
    """The text with the two halves of a pair joined, and U+FFFD for each half alone.

    Text that is whole stays as it is. In JSON text, written without ASCII escapes, this repairs
    all strings at once.
    """
    if is_whole(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def with_whole_texts(value: Any) -> Any:
    """The same value with all of its texts made whole, those of keys, lists and sets too."""
    if isinstance(value, str):
        return made_whole(value)
    if isinstance(value, Mapping):
        return {with_whole_texts(key): with_whole_texts(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [with_whole_texts(each) for each in value]
    return value


def ends_in_half(text: str) -> bool:
    """Whether the text ends in the first half of a pair, whose second may yet come."""
    return "\ud800" <= text[-1:] <= "\udbff"
