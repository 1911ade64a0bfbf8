"""Retries a call while Redis is unavailable, for a limited time: at the start and end of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fleet.errors import RetryLater

PAUSE_SECONDS = 0.5

Written = TypeVar("Written")


def retry_while_away(write: Callable[[], Written], seconds: float) -> Written:
    """The result of `write`. While Redis cannot take the call, it is retried for `seconds`; then
    `RetryLater` is raised.

    A run whose outcome is given up counts as a run whose worker has died.
    """
    give_up = time.monotonic() + seconds
    while True:
        try:
            return write()
        except RetryLater:
            if time.monotonic() > give_up:
                raise
            time.sleep(PAUSE_SECONDS)
