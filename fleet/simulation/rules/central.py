"""The ideal: one first-come first-served queue for all slots, which are equal."""

from __future__ import annotations

from heapq import heapify, heapreplace

import numpy as np

from fleet.routing.rules.scoring import FloatArray


def central_waits(arrival: FloatArray, seconds: FloatArray, slots: int) -> FloatArray:
    """The wait of each task, in seconds: J. Kiefer and J. Wolfowitz, On the theory of queues with
    many servers (1955). `arrival` is sorted."""
    free_at = [0.0] * slots
    heapify(free_at)
    waits = []
    for now, run in zip(arrival.tolist(), seconds.tolist(), strict=True):
        start = max(now, free_at[0])
        heapreplace(free_at, start + run)
        waits.append(start - now)
    return np.array(waits)
