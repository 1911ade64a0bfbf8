"""The score of `ai_optimized` over columns of pools; Redis adds its load term at the end.

    total = 0.30 success + 0.25 response + 0.20 load + 0.15 compatibility + 0.10 fit

Every term is in 0..1 before it is weighted, and higher is better. All terms except the load change
slowly and come from a snapshot. The load is added from exact counts when a pool is picked
(`fleet.routing.rules.routing.decide`, and the atomic step in Redis).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SIMPLE, MIDDLING = 0.3, 0.7
BANDS = (0, 1, 2)
MIDDLE_WEIGHT, TOP_WEIGHT = 5, 10


class ScoreWeights(NamedTuple):
    """The weight of each term. With a sum of 1 the total is in 0..1."""

    success: float = 0.30
    response: float = 0.25
    load: float = 0.20
    compatibility: float = 0.15
    complexity_fit: float = 0.10


REFERENCE_WEIGHTS = ScoreWeights()


def response_term(seconds: FloatArray) -> FloatArray:
    """1 / (1 + r), r the moving average of the response time in seconds."""
    return 1.0 / (1.0 + seconds)


def complexity_band(complexity: float) -> int:
    """0 for simple tasks (up to 0.3), 1 for medium ones (up to 0.7), 2 for complex ones."""
    return 0 if complexity <= SIMPLE else 1 if complexity <= MIDDLING else 2


def complexity_fit(band: int, weight: FloatArray) -> FloatArray:
    """How well pools of `weight` (1..10) suit tasks of a complexity band.

    Simple tasks suit all pools equally: 1. Medium tasks suit pools of medium weight:
    1 - |w - 5| / 5. Complex tasks suit heavy pools: w / 10.
    """
    if band == 0:
        return np.ones_like(weight)
    if band == 1:
        return 1.0 - np.abs(weight - MIDDLE_WEIGHT) / MIDDLE_WEIGHT
    return weight / TOP_WEIGHT


def expected_wait(in_flight: int, sent: int, capacity: int, response_seconds: float) -> float:
    """(in-flight + 1) / (capacity x speed), in seconds, speed = 1 / response time.

    `sent` counts the publisher's own sends since the snapshot.
    """
    return (in_flight + sent + 1) * response_seconds / capacity
