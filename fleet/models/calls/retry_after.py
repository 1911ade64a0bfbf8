"""The wait that a provider asks for, from the headers of its answer.

    retry-after-ms                              milliseconds; OpenAI, Azure, Anthropic
    retry-after                                 seconds, whole or not, or an HTTP date; RFC 9110
    x-ratelimit-reset[-requests|-tokens|...]    `6m0s`, `120ms`, seconds, or seconds or milliseconds
                                                since 1970; OpenAI, Groq, OpenRouter, Mistral
    anthropic-ratelimit-requests-reset, ...     a time of RFC 3339; Anthropic

The first header with a value counts. Of the resets, only those of used-up limits count. A time of
more than a week counts as a week.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RESET = re.compile(r"(?:x-ratelimit-reset(?:-[a-z0-9-]+)?|anthropic-ratelimit-[a-z0-9-]+-reset)\Z")
PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?\Z")
PART_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
MAX_SECONDS = 7 * 86_400.0
SINCE_1970 = 1e9
"""A larger number of seconds is a point in time; over a thousand times this, in milliseconds."""


def seconds_to_wait(headers: Mapping[str, str], now: datetime, *, limited: bool) -> float | None:
    """The seconds from `now` on, over 0, that a provider asks to wait; None if it gives no time.
    Names are in lower case. `limited` says that the answer is about a rate limit. Only then resets
    count, which some providers send with every answer."""
    told = [_number(headers.get("retry-after-ms", "")) / 1000]
    after = headers.get("retry-after", "")
    told.append(_number(after))
    told.append(_until_date(after, now))
    if limited:
        told.append(_until_reset(headers, now))
    return next((min(seconds, MAX_SECONDS) for seconds in told if seconds > 0), None)


def _number(text: str) -> float:
    """A number in digits; 0 for anything else."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _until_date(text: str, now: datetime) -> float:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - now).total_seconds()


def _until_reset(headers: Mapping[str, str], now: datetime) -> float:
    """The latest reset of a used-up limit. If no limit is known to be used up, the earliest reset:
    the provider's next answer then says more."""
    resets = {name: value for name in headers if (value := _reset(name, headers[name], now)) > 0}
    spent = [resets[name] for name in resets if _number_left(headers, name) == 0]
    return max(spent, default=min(resets.values(), default=0.0))


def _number_left(headers: Mapping[str, str], reset: str) -> float | None:
    text = headers.get(reset.replace("reset", "remaining"), "")
    return float(text) if text.isdecimal() else None


def _reset(name: str, text: str, now: datetime) -> float:
    if not RESET.match(name):
        return 0.0
    return next((found for found in _readings(text.strip(), now) if found > 0), 0.0)


def _readings(text: str, now: datetime) -> Iterator[float]:
    number = _number(text)
    moment = number / 1000 if number > SINCE_1970 * 1000 else number
    yield moment - now.timestamp() if moment > SINCE_1970 else moment
    if parts := PARTS.match(text):
        pairs = zip(parts.groups(), PART_SECONDS, strict=True)
        yield sum(_number(part or "") * seconds for part, seconds in pairs)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return
    yield ((found if found.tzinfo else found.replace(tzinfo=UTC)) - now).total_seconds()
