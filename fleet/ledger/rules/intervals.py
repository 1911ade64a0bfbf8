"""Estimates from samples of a quantity, with confidence intervals.

Samples are an array of shape (rounds, values). Each round is one process, whose values share the
conditions of that process (memory layout, hash seed, load of the machine). So the bootstrap draws
rounds first and then values within each drawn round, as in A. C. Davison and D. V. Hinkley,
Bootstrap Methods and their Application (1997), section 3.8. The intervals are percentile intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between two bounds that include the true value with probability `confidence`."""

    estimate: float
    low: float
    high: float
    confidence: float


def percentile(values: ArrayLike, fraction: float) -> float:
    """The value below which `fraction` (0..1) of the values lie, linear between neighbours.

    Raises `ValueError` for no values.
    """
    flat = np.asarray(values, dtype=float).ravel()
    if flat.size == 0:
        raise ValueError("a percentile needs at least one value")
    return float(np.quantile(flat, fraction))


def spread(values: ArrayLike) -> float:
    """The median absolute deviation from the median, in the values' own unit (not scaled)."""
    flat = np.asarray(values, dtype=float)
    return percentile(np.abs(flat - percentile(flat, 0.5)), 0.5)


def median_interval(
    samples: ArrayLike,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The median of samples of shape (rounds, values), with its bootstrap interval."""
    table = _table(samples)
    rounds = _drawn_rounds(table, resamples, rng)
    return _interval(percentile(table, 0.5), _medians(table, rounds, rng), confidence)


def median_ratio_interval(
    samples: ArrayLike,
    reference: ArrayLike,
    *,
    confidence: float,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The median of the samples over the reference's, both of shape (rounds, values).

    Round i of both was measured side by side, so both draw the same rounds, and a common slowdown
    cancels out. Raises `ValueError` if the numbers of rounds differ.
    """
    table, other = _table(samples), _table(reference)
    if len(table) != len(other):
        raise ValueError(f"{len(table)} rounds cannot be paired with {len(other)}")
    rounds = _drawn_rounds(table, resamples, rng)
    ratios = _medians(table, rounds, rng) / _medians(other, rounds, rng)
    return _interval(percentile(table, 0.5) / percentile(other, 0.5), ratios, confidence)


def _table(samples: ArrayLike) -> Floats:
    table = np.asarray(samples, dtype=float)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"samples have shape (rounds, values), none of them 0; not {table.shape}")
    return table


def _drawn_rounds(table: Floats, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(len(table), size=(resamples, len(table)))


def _medians(table: Floats, rounds: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    values = rng.integers(table.shape[1], size=(*rounds.shape, table.shape[1]))
    drawn = table[rounds[:, :, np.newaxis], values]
    medians: Floats = np.median(drawn, axis=(1, 2))
    return medians


def _interval(estimate: float, drawn: Floats, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    return Interval(estimate, percentile(drawn, tail), percentile(drawn, 1 - tail), confidence)
