"""Figures and verdicts from timings."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fleet.ledger.rules.intervals import median_interval, median_ratio_interval, percentile, spread
from workers.performance_tester.models import Comparison, Timing, TimingVerdict


def timing(
    name: str, samples: ArrayLike, loops: int, confidence: float, rng: np.random.Generator
) -> Timing:
    """One variant's figures from its samples of shape (rounds, values), in seconds."""
    table = np.asarray(samples, dtype=float)
    median = median_interval(table, confidence=confidence, rng=rng)
    return Timing(
        name=name,
        median=median.estimate,
        median_low=median.low,
        median_high=median.high,
        p95=percentile(table, 0.95),
        mean=float(table.mean()),
        spread=spread(table),
        values=table.size,
        loops=loops,
    )


def comparison(
    name: str,
    reference_name: str,
    samples: ArrayLike,
    reference: ArrayLike,
    confidence: float,
    rng: np.random.Generator,
) -> Comparison:
    """The comparison of a variant with the reference, round by round."""
    ratio = median_ratio_interval(samples, reference, confidence=confidence, rng=rng)
    return Comparison(
        name=name,
        reference=reference_name,
        ratio=ratio.estimate,
        low=ratio.low,
        high=ratio.high,
        verdict=verdict(ratio.low, ratio.high),
    )


def verdict(low: float, high: float) -> TimingVerdict:
    """The verdict from the interval of a ratio of times. A bound of exactly 1 is no difference."""
    if high < 1:
        return "faster"
    if low > 1:
        return "slower"
    return "no difference found"
