"""Text from outside, held to a form before it is kept or shown.

Providers, proxies in front of them, Redis and exceptions of agents may repeat what they were sent,
and so a key. A code of theirs is kept only if it looks like one, and any other text only without
the secrets that this process knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from fleet.text import MAX_SHOWN, plain

HIDDEN = "***"

MAX_CODE = 64
MAX_WORDS = 8

CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:/ -]*")
WORD = re.compile(r"[A-Za-z]{1,32}[0-9]{0,3}|[0-9]{1,5}")
"""A word of a code. A key has parts in which letters and digits alternate."""

SHORTEST_SECRET = 8
"""Shorter secrets are not searched for: they occur in ordinary text."""


def code_word(text: str, secrets: Iterable[str] = ()) -> str | None:
    """The text if it looks like the code of an error, such as `rate_limit_error`; else None.

    A code has up to 64 characters and 8 words. It contains no eight consecutive characters of one
    of the `secrets`, in any case of letters: a proxy may show a part of a key.
    """
    if len(text) > MAX_CODE or not CODE.fullmatch(text):
        return None
    words = re.split(r"[^A-Za-z0-9]+", text.strip())
    if len(words) > MAX_WORDS or not all(WORD.fullmatch(word) for word in words):
        return None
    return None if _shares_a_part(text, secrets) else text


def _shares_a_part(text: str, secrets: Iterable[str]) -> bool:
    lowered = [secret.lower() for secret in secrets]
    found = text.lower()
    size = SHORTEST_SECRET
    parts = [found[start : start + size] for start in range(len(found) - size + 1)]
    return any(part in secret for secret in lowered for part in parts) or any(
        secret and secret in found for secret in lowered
    )


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with `***` in place of each of the `secrets` of at least eight characters, also as
    they stand in an address."""
    # The longest first: one secret may contain another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            for form in (secret, quote(secret, safe="")):
                if form in text:
                    text = text.replace(form, HIDDEN)
    return text


def first_line(text: str) -> str:
    """The first line of a message of another library, at most 100 characters of it."""
    line = next((line for line in text.splitlines() if line.strip()), "")
    return plain(line.strip())[:MAX_SHOWN]
