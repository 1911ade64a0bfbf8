"""Hooks of the process, such as those at a fork or at the exit, that keep no object alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable


def weakly(method: Callable[[], object]) -> Callable[[], None]:
    """A function that calls a bound method as long as its object lives, and then does nothing."""
    kept = weakref.WeakMethod(method)

    def call() -> None:
        found = kept()
        if found is not None:
            found()

    return call
