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
    table: Floats,
    targets: Floats,
    weights: Floats,
    trees: int,
    rng: np.random.Generator,
    penalty: float = LEAF_PENALTY,
    rate: float = RATE,
) -> Forest:
    """Fit a forest to targets whose mean is about 0. Targets with little noise need less of a
    penalty and bear a higher rate."""
    edges = np.quantile(table, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T
    binned = np.array(
        [np.searchsorted(edge, column) for edge, column in zip(edges, table.T, strict=True)]
    )
    left = targets.copy()
    grown = []
    for _ in range(trees):
        seen = rng.permutation(len(binned))[: max(1, round(SEEN_SHARE * len(binned)))]
        tree, leaf_of = _tree(binned, seen, left, weights, penalty, rate)
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
    binned: Integers, seen: Integers, left: Floats, weights: Floats, penalty: float, rate: float
) -> tuple[_Tree, Integers]:
    """One tree, and the leaf of each row."""
    columns, bins = [], []
    leaf = np.zeros(len(left), np.int64)
    weighted = weights * left
    for level in range(DEPTH):
        column, after = _best_split(binned[seen], leaf, level, weighted, weights, penalty)
        columns.append(int(seen[column]))
        bins.append(after)
        leaf += (binned[columns[-1]] > bins[-1]) << level
    sums = np.bincount(leaf, weighted, LEAVES)
    held = np.bincount(leaf, weights, LEAVES)
    return _Tree(columns, bins, rate * sums / (held + penalty)), leaf


def _best_split(
    binned: Integers,
    leaf: Integers,
    level: int,
    weighted: Floats,
    weights: Floats,
    penalty: float,
) -> tuple[int, int]:
    """By which column, and after which bin, the split of all leaves explains most."""
    size = BINS << level
    cells = (binned + leaf * BINS + size * np.arange(len(binned))[:, None]).ravel()
    sums, held = (
        np.bincount(cells, np.tile(each, len(binned)), size * len(binned))
        .reshape(len(binned), -1, BINS)
        .cumsum(axis=2)
        for each in (weighted, weights)
    )
    low = sums**2 / (held + penalty)
    high = (sums[:, :, -1:] - sums) ** 2 / (held[:, :, -1:] - held + penalty)
    explained = (low + high).sum(axis=1)[:, :-1]
    column, after = np.unravel_index(int(explained.argmax()), explained.shape)
    return int(column), int(after)
