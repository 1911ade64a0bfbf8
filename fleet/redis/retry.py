"""Waits a bounded while for a Redis that is away: for what a run begins or ends with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fleet.errors import RetryLater

PAUSE_SECONDS = 0.5

Written = TypeVar("Written")


def retry_while_away(write: Callable[[], Written], seconds: float) -> Written:
    """What `write` gives. It is called again while Redis cannot take it, for so long; then
    `RetryLater` is raised.

    Given up, an end counts as that of a run whose worker has died.
    """
    give_up = time.monotonic() + seconds
    while True:
        try:
            return write()
        except RetryLater:
            if time.monotonic() > give_up:
                raise
            time.sleep(PAUSE_SECONDS)
