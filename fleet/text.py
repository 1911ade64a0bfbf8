"""Text from models, users and files, made safe to show, to store and to quote in errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

MAX_SHOWN = 100
MAX_DIGITS = 30


def brief(value: object) -> str:
    """A JSON value for an error message. A long text is cut; a list or an object gives its type."""
    if isinstance(value, str):
        return repr(value) if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]!r}..."
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**MAX_DIGITS else "a number of many digits"
    return f"a {type(value).__name__}"


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number. A bool is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unknown(kind: str, name: object, allowed: Iterable[str]) -> str:
    """The error message for an unknown name. It lists the allowed names."""
    return f"no {kind} is called {brief(name)}; use one of: {', '.join(sorted(allowed))}"


# Half a surrogate pair: JSON can spell it, UTF-8 cannot encode it. Models write it when they cut a
# character in two. Clients pass it on, and the code that encodes it later fails.


def is_whole(text: str) -> bool:
    """Whether UTF-8 can encode the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def made_whole(text: str) -> str:
    """The text with split surrogate pairs joined, and U+FFFD for each single half.

    Other text stays as it is. Applied to JSON text that has no ASCII escapes, this repairs all
    strings at once.
    """
    if is_whole(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def with_whole_texts(value: Any) -> Any:
    """The same JSON value with every text made whole, keys included. Sets become lists."""
    if isinstance(value, str):
        return made_whole(value)
    if isinstance(value, Mapping):
        return {with_whole_texts(key): with_whole_texts(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [with_whole_texts(each) for each in value]
    return value


def ends_in_half(text: str) -> bool:
    """Whether the text ends in the first half of a pair. The second half may still arrive."""
    return "\ud800" <= text[-1:] <= "\udbff"


# Terminal output. Names, errors, findings and file names come from models, users and files. A
# control character in them would move the cursor or change colours on a terminal. The functions
# below remove the C0 and C1 characters and those that change the direction of writing, and replace
# half a surrogate pair, which no terminal can print.

LINE_BREAK = "\u23ce"
"""Shown in place of a line break in one-line text: ⏎."""

_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_BREAKS = (0x0A, 0x0B, 0x0C, 0x85, 0x2028, 0x2029)
_COMMON = {
    **dict.fromkeys(range(0x20)),
    **dict.fromkeys(range(0x7F, 0xA0)),
    **dict.fromkeys(_DIRECTIONS),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0x09: " ",
}
_ONE_LINE = {**_COMMON, **dict.fromkeys(_BREAKS, LINE_BREAK)}
_LINES = {**_COMMON, **dict.fromkeys(_BREAKS, "\n"), 0x09: "\t"}


def plain(text: str) -> str:
    """The text on one line. Line breaks become `LINE_BREAK`."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_ONE_LINE)


def plain_lines(text: str) -> str:
    """The text with its line breaks and tabs kept."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_LINES)


def plain_label(text: str) -> str:
    """The text for a matplotlib label, which would read text between dollar signs as a formula."""
    return plain(text).replace("$", r"\$")
