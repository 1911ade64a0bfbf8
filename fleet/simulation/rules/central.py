"""The ideal: one queue, first come first served, before all slots, which are all alike."""

from __future__ import annotations

from heapq import heapify, heapreplace

import numpy as np

from fleet.routing.rules.scoring import FloatArray


def central_waits(arrival: FloatArray, seconds: FloatArray, slots: int) -> FloatArray:
    """How long each task waits, in seconds: J. Kiefer and J. Wolfowitz, On the theory of queues
    with many servers (1955). `arrival` is in order."""
    free_at = [0.0] * slots
    heapify(free_at)
    waits = []
    for now, run in zip(arrival.tolist(), seconds.tolist(), strict=True):
        start = max(now, free_at[0])
        heapreplace(free_at, start + run)
        waits.append(start - now)
    return np.array(waits)
