"""How much a better model gains on a task, told from its text: 0 less than on all, 1 more.

Two stages. Lines (`ridge`) say from the words of a text what to expect of it; trees (`trees`) put
that together with the figures of its form. What the trees say is turned into a share: how many
of the texts learned from gain less. So estimates spread evenly over 0..1.

Nothing is judged by what it was fitted to. The texts are parted by a checksum of their sketch,
equal texts together. Each part is scored by lines that were fitted to the other parts; those
scores are what the trees learn from; and each part is ranked by trees that did not see it. The
model is the mean of the parts' lines, and the mean of their trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from fleet.errors import InvalidRequest
from fleet.models.rules.difficulty.model import SHARES, DifficultyModel
from fleet.models.rules.difficulty.ridge import (
    Floats,
    Line,
    Rows,
    inverse_document_frequency,
    ridge,
)
from fleet.models.rules.difficulty.text_features import BUCKETS, COUNTS, Integers, Sketch
from fleet.models.rules.difficulty.trees import (
    DEPTH,
    LEAF_PENALTY,
    LEAVES,
    RATE,
    Forest,
    averaged,
    grow,
    halves,
)

PARTS = 5
TREES_PER_PART = 60
LEAST_EXAMPLES = 50
LENGTH_TREES = 16
"""Sixteen trees of four questions tell 65 lengths apart."""


class Fitted(NamedTuple):
    """A model, and what it says of each example when it has not learned from that one (0..1)."""

    model: DifficultyModel
    out_of_fold: Floats


class Lines(NamedTuple):
    """Lines, one for each target: what they say of each example out of fold (examples, targets),
    and the means over the parts of their coefficients (BUCKETS, targets) and constants."""

    scores: Floats
    coefficients: Floats
    means: Floats


def fit(
    sketches: Sequence[Sketch],
    views: Floats,
    mix: Floats,
    weights: Floats,
    rng: np.random.Generator,
) -> Fitted:
    """Learn to rank texts by what is wanted of them: `views` (examples, views) times `mix`.

    Each view has lines of its own, so views that depend on a text in different ways, such as the
    rewards of two models, are better kept apart than mixed at once. One or two views fit into
    the stored size. `weights` say what each example counts.

    Raises `InvalidRequest` where there are too few examples, or all want the same.
    """
    targets = views @ mix
    parts = parted(sketches, targets)
    rarity = inverse_document_frequency([each.buckets for each in sketches])
    lines = fit_lines(sketches, views, np.tile(weights[:, None], views.shape[1]), parts, rarity)
    return assembled(sketches, lines, mix, targets, weights, parts, rarity, rng)


def assembled(
    sketches: Sequence[Sketch],
    lines: Lines,
    mix: Floats,
    targets: Floats,
    weights: Floats,
    parts: Integers,
    rarity: Floats,
    rng: np.random.Generator,
    penalty: float = LEAF_PENALTY,
    rate: float = RATE,
) -> Fitted:
    """The model whose trees rank texts by their targets, from lines' scores and the form."""
    table = np.column_stack((lines.scores, lines.scores @ mix, figures_of(sketches)))
    forest, values = fit_forests(
        table, targets, weights, parts, TREES_PER_PART, rng, penalty, rate
    )
    model = DifficultyModel(
        weights=halves(np.vstack((rarity**2, (rarity[:, None] * lines.coefficients).T))).astype(
            np.float32
        ),
        means=lines.means,
        mix=mix,
        forest=forest,
        shares=halves(np.quantile(values, SHARES)),
    )
    return Fitted(model, np.array([model.share(value) for value in values]))


def by_length(sketches: Sequence[Sketch]) -> Fitted:
    """The model by which a longer text gains more, whatever its words are."""
    lengths = figures_of(sketches)[:, COUNTS.index("bytes")]
    asked = (LENGTH_TREES, DEPTH)
    thresholds = np.quantile(lengths, np.linspace(0.0, 1.0, LENGTH_TREES * DEPTH + 2)[1:-1])
    passed = np.array([leaf.bit_count() for leaf in range(LEAVES)]) / (LENGTH_TREES * DEPTH)
    # A row begins with the scores of two lines and their mix, then come the figures.
    column = 3 + COUNTS.index("bytes")
    leaves = np.tile(passed, (LENGTH_TREES, 1))
    forest = Forest(np.full(asked, column), halves(thresholds.reshape(asked)), leaves)
    values = (lengths[:, None] > forest.thresholds.reshape(1, -1)).mean(axis=1)
    model = DifficultyModel(
        weights=np.zeros((3, BUCKETS), np.float32),
        means=np.zeros(2),
        mix=np.zeros(2),
        forest=forest,
        shares=halves(np.quantile(values, SHARES)),
    )
    return Fitted(model, np.array([model.share(value) for value in values]))


def figures_of(sketches: Sequence[Sketch]) -> Floats:
    """The figures of all texts' form (examples, FIGURES)."""
    return np.array([each.figures for each in sketches], np.float64)


def parted(sketches: Sequence[Sketch], targets: Floats) -> Integers:
    """Which part each example is in. Raises as `fit` does."""
    if len(sketches) < LEAST_EXAMPLES:
        raise InvalidRequest(
            f"{len(sketches)} examples are too few to learn difficulty from; record at least "
            f"{LEAST_EXAMPLES}"
        )
    if np.ptp(targets) == 0.0:
        raise InvalidRequest(
            "all examples ended alike, so there is nothing to tell apart; record both tasks "
            "that passed and tasks that did not"
        )
    parts = np.array([crc32(each.to_bytes()) % PARTS for each in sketches])
    if len(np.unique(parts)) < PARTS:
        raise InvalidRequest("the examples are too few different texts; record more kinds of task")
    return parts


def fit_lines(
    sketches: Sequence[Sketch], targets: Floats, weights: Floats, parts: Integers, rarity: Floats
) -> Lines:
    """A line for each target (examples, targets), learned from the examples that weigh anything
    for it: `weights` (examples, targets)."""
    scores = np.zeros(targets.shape)
    coefficients = np.zeros((len(rarity), targets.shape[1]))
    means = np.zeros(targets.shape[1])
    buckets = [each.buckets for each in sketches]
    for part in range(PARTS):
        inside = parts == part
        held = Rows.of([buckets[each] for each in inside.nonzero()[0]], rarity)
        for target in range(targets.shape[1]):
            chosen = (~inside & (weights[:, target] > 0.0)).nonzero()[0]
            line = _line(buckets, targets[chosen, target], weights[chosen, target], chosen, rarity)
            scores[inside, target] = line.mean + held.times(line.coefficients)
            coefficients[:, target] += line.coefficients / PARTS
            means[target] += line.mean / PARTS
    return Lines(scores, coefficients, means)


def _line(
    buckets: Sequence[Integers], targets: Floats, weights: Floats, chosen: Integers, rarity: Floats
) -> Line:
    if not len(chosen):
        return Line(np.zeros(len(rarity)), 0.0)
    return ridge(Rows.of([buckets[each] for each in chosen], rarity), targets, weights)


def fit_forests(
    table: Floats,
    targets: Floats,
    weights: Floats,
    parts: Integers,
    trees: int,
    rng: np.random.Generator,
    penalty: float = LEAF_PENALTY,
    rate: float = RATE,
) -> tuple[Forest, Floats]:
    """The parts' trees as one forest, and what each example's own part's trees say of it.

    They are grown from the examples that weigh anything, and asked about all. What they say is by
    how much a target differs from the mean.
    """
    forests = []
    values = np.zeros(len(table))
    for part in range(PARTS):
        inside = parts == part
        chosen = ~inside & (weights > 0.0)
        if not chosen.any():
            continue
        mean = np.average(targets[chosen], weights=weights[chosen])
        ahead = targets[chosen] - mean
        grown = grow(table[chosen], ahead, weights[chosen], trees, rng, penalty, rate)
        values[inside] = grown.values(table[inside])
        forests.append(grown)
    return averaged(forests), values
