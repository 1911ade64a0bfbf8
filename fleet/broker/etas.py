"""The time before which a Celery message shall not run, taken from it.

A worker of stock Celery takes such a message and keeps it in its memory. Here it waits in Redis,
and carries no time when it is taken.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from kombu.utils.json import dumps


def seconds_until_eta(message: dict[str, Any]) -> float:
    """How long a message has to wait from now on, at its publisher; 0 where it has not.

    Celery makes a time of a countdown by the publisher's clock. So the same clock makes a wait of
    it again, which Redis's clock measures: a countdown is exact, whatever the publisher's clock
    says.
    """
    eta = (message.get("headers") or {}).get("eta")
    if not eta:
        return 0.0
    moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def may_wait(message: dict[str, Any]) -> bool:
    """Whether a message that anybody may have written has to wait, by a time that is one."""
    try:
        return seconds_until_eta(message) > 0
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False


def content_of(message: dict[str, Any]) -> str:
    """A short text that is another one for each message that may wait, however often it comes."""
    headers = message["headers"]
    parts = [headers.get("id"), headers.get("eta"), message.get("body")]
    return sha256(dumps(parts).encode()).hexdigest()


def without_eta(message: dict[str, Any]) -> dict[str, Any]:
    """The same message, to be run as soon as it is taken."""
    return {**message, "headers": {**message["headers"], "eta": None}}
