"""Boosted oblivious trees: each level of a tree asks one question of all its branches.

A tree asks four times "is this figure above that threshold?"; the four answers are the number of
a leaf (as in Prokhorenkova et al., "CatBoost", 2018). So a whole forest is evaluated by a few
numpy calls. Each tree fits what those before it left over, sees a random third of the columns,
and counts by `RATE` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Small = npt.NDArray[np.uint8]

DEPTH = 4
LEAVES = 1 << DEPTH
BINS = 32
RATE = 0.08
LEAF_PENALTY = 60.0
SEEN_SHARE = 0.33
PLACES = 1 << np.arange(DEPTH)


class Forest(NamedTuple):
    """`columns` and `thresholds` are (trees, DEPTH), `leaves` (trees, LEAVES)."""

    columns: Integers
    thresholds: Floats
    leaves: Floats

    def value(self, figures: Floats) -> float:
        """The sum of the leaves that one row of figures falls into."""
        leaf = (figures.take(self.columns) > self.thresholds) @ PLACES
        return float(self.leaves.take(leaf + np.arange(0, self.leaves.size, LEAVES)).sum())

    def values(self, table: Floats) -> Floats:
        """`value` of each row of a table (rows, columns)."""
        total = np.zeros(len(table))
        for columns, thresholds, leaves in zip(*self, strict=True):
            total += leaves[(table[:, columns] > thresholds) @ PLACES]
        return total


def grow(
    table: Floats, targets: Floats, weights: Floats, trees: int, rng: np.random.Generator
) -> Forest:
    """Fit a forest to targets whose mean is about 0."""
    edges = np.quantile(table, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T
    binned = np.array(
        [np.searchsorted(edge, column) for edge, column in zip(edges, table.T, strict=True)]
    )
    left = targets.copy()
    grown = []
    for _ in range(trees):
        seen = rng.permutation(len(binned))[: max(1, round(SEEN_SHARE * len(binned)))]
        tree, leaf_of = _tree(binned, seen, left, weights)
        left -= tree.leaves[leaf_of]
        grown.append(tree)
    columns = np.array([tree.columns for tree in grown])
    bins = np.array([tree.bins for tree in grown])
    return Forest(columns, edges[columns, bins], np.array([tree.leaves for tree in grown]))


def halves(numbers: Floats) -> Floats:
    """The nearest numbers that fit into 16 bits, as a stored model holds them."""
    return numbers.astype(np.float16).astype(np.float64)


def averaged(forests: Sequence[Forest]) -> Forest:
    """One forest whose value is the mean of the others', in numbers that fit into 16 bits."""
    leaves = np.concatenate([each.leaves for each in forests]) / len(forests)
    return Forest(
        np.concatenate([each.columns for each in forests]),
        halves(np.concatenate([each.thresholds for each in forests])),
        halves(leaves),
    )


class _Tree(NamedTuple):
    columns: list[int]
    bins: list[int]
    leaves: Floats


def _tree(
    binned: Integers, seen: Integers, left: Floats, weights: Floats
) -> tuple[_Tree, Integers]:
    """One tree, and the leaf of each row."""
    columns, bins = [], []
    leaf = np.zeros(len(left), np.int64)
    weighted = weights * left
    for level in range(DEPTH):
        splits = [_best_bin(binned[each], leaf, level, weighted, weights) for each in seen]
        best = max(range(len(seen)), key=lambda each: splits[each][0])
        columns.append(int(seen[best]))
        bins.append(splits[best][1])
        leaf += (binned[columns[-1]] > bins[-1]) << level
    sums = np.bincount(leaf, weighted, LEAVES)
    held = np.bincount(leaf, weights, LEAVES)
    return _Tree(columns, bins, RATE * sums / (held + LEAF_PENALTY)), leaf


def _best_bin(
    column: Integers, leaf: Integers, level: int, weighted: Floats, weights: Floats
) -> tuple[float, int]:
    """How much the best split of all leaves by one column explains, and after which bin."""
    cell = leaf * BINS + column
    size = BINS << level
    sums = np.bincount(cell, weighted, size).reshape(-1, BINS).cumsum(axis=1)
    held = np.bincount(cell, weights, size).reshape(-1, BINS).cumsum(axis=1)
    low = sums**2 / (held + LEAF_PENALTY)
    high = (sums[:, -1:] - sums) ** 2 / (held[:, -1:] - held + LEAF_PENALTY)
    explained = (low + high).sum(axis=0)[:-1]
    best = int(explained.argmax())
    return float(explained[best]), best
