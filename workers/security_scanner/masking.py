"""Masks the secrets that a scan found in all of its output.

There are three rules. On a line with a secret every string literal is emptied, whatever value the
tools report: they report a private key by its first words alone, and an escape in a literal makes
its value differ from its text. Every known value is replaced wherever else it appears, unless it is
so short that this would mask ordinary words. And a literal assigned to a name such as `password` is
emptied even if the tools missed it: they assume that a line with a call only refers to a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from workers.security_scanner.hits import Hit

MASK = "***"
SHORTEST_REPLACED = 4
LONGEST_SNIPPET = 200
# A literal, or the part of one that continues in the next line.
_LITERAL = re.compile(r"""(\"{3}|'{3}|"|')(?:\\.|(?!\1).)*(\1|\\?$)""")

_NAMED_LITERAL = re.compile(
    r"""((?:passw(?:or)?d|passphrase|pwd|secret|token|credential|api_?key|access_?key|private_?key)
    \w*["']?\]?\s*(?:[:=!]=?|:=)\s*[bfru]{0,2})(["'])(?:\\.|(?!\2).)+(\2|$)""",
    re.IGNORECASE | re.VERBOSE,
)


class Masker:
    """Masks the secrets of a whole scan. Make it when the scan is over."""

    def __init__(self, hits: Iterable[Hit]) -> None:
        self._places: dict[tuple[str, int], list[str]] = {}
        for hit in hits:
            if hit.secrets:
                self._places.setdefault((hit.file, hit.line), []).extend(filter(None, hit.secrets))
        every = {part for values in self._places.values() for v in values for part in _parts(v)}
        self._values = sorted(every, key=lambda value: (-len(value), value))

    def snippet(self, hit: Hit) -> str:
        """The hit's line without its secrets, at most 200 characters of it."""
        line = hit.source_line.strip()
        own = self._places.get((hit.file, hit.line))
        if own is not None:
            line = _emptied(line, own)
        line = _NAMED_LITERAL.sub(rf"\1\2{MASK}\3", line)
        return self.text(line)[:LONGEST_SNIPPET]

    def text(self, text: str) -> str:
        """The text with every known secret replaced."""
        return _replaced(text, self._values)


def _emptied(line: str, secrets: list[str]) -> str:
    """The line with its literals emptied; without any, the line up to its first secret."""
    emptied, literals = _LITERAL.subn(rf"\1{MASK}\2", line)
    if literals:
        return _replaced(emptied, sorted(secrets, key=len, reverse=True))
    return line[: min((line.find(value) for value in secrets if value in line), default=0)] + MASK


def _replaced(text: str, values: list[str]) -> str:
    for value in values:
        text = text.replace(value, MASK)
    return text


def _parts(value: str) -> list[str]:
    """A secret and its lines: a secret over several lines appears one line at a time."""
    parts = [value, *value.splitlines()]
    return [part for part in (part.strip() for part in parts) if len(part) >= SHORTEST_REPLACED]
