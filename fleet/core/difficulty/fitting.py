"""How difficult a task is, told from its text: 0 easier than all that was learned from, 1 harder.

Two stages. Lines (`ridge`) say from the words of a text what to expect of it; trees (`trees`) put
that together with the figures of its form. What the trees say is turned into a share: how many
of the texts learned from were easier. So estimates spread evenly over 0..1.

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

from fleet.core.difficulty.model import SHARES, DifficultyModel
from fleet.core.difficulty.ridge import Floats, Rows, inverse_document_frequency, ridge
from fleet.core.difficulty.text_features import Integers, Sketch
from fleet.core.difficulty.trees import Forest, averaged, grow, halves
from fleet.errors import InvalidRequest

PARTS = 5
TREES_PER_PART = 60
LEAST_EXAMPLES = 50


class Fitted(NamedTuple):
    """A model, and what it says of each example when it has not learned from that one (0..1)."""

    model: DifficultyModel
    out_of_fold: Floats


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
    parts = _parts(sketches, targets)
    rarity = inverse_document_frequency([each.buckets for each in sketches])
    scores, lines, means = _lines(sketches, views, weights, parts, rarity)
    table = np.column_stack((scores, scores @ mix, [each.figures for each in sketches]))
    forest, values = _forests(table, targets, weights, parts, rng)
    model = DifficultyModel(
        weights=halves(np.vstack((rarity**2, (rarity[:, None] * lines).T))).astype(np.float32),
        means=means,
        mix=mix,
        forest=forest,
        shares=halves(np.quantile(values, SHARES)),
    )
    return Fitted(model, np.array([model.share(value) for value in values]))


def _parts(sketches: Sequence[Sketch], targets: Floats) -> Integers:
    """Which part each example is in."""
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


def _lines(
    sketches: Sequence[Sketch], views: Floats, weights: Floats, parts: Integers, rarity: Floats
) -> tuple[Floats, Floats, Floats]:
    """The views' scores out of fold, and the mean coefficients and means of the parts' lines."""
    scores = np.zeros(views.shape)
    coefficients = np.zeros((len(rarity), views.shape[1]))
    means = np.zeros(views.shape[1])
    for part in range(PARTS):
        inside = parts == part
        held, others = (
            Rows.of([sketches[each].buckets for each in mask.nonzero()[0]], rarity)
            for mask in (inside, ~inside)
        )
        for view in range(views.shape[1]):
            line = ridge(others, views[~inside, view], weights[~inside])
            scores[inside, view] = line.mean + held.times(line.coefficients)
            coefficients[:, view] += line.coefficients / PARTS
            means[view] += line.mean / PARTS
    return scores, coefficients, means


def _forests(
    table: Floats, targets: Floats, weights: Floats, parts: Integers, rng: np.random.Generator
) -> tuple[Forest, Floats]:
    """The parts' trees as one forest, and what each example's own part's trees say of it."""
    forests = []
    values = np.zeros(len(table))
    for part in range(PARTS):
        inside = parts == part
        mean = np.average(targets[~inside], weights=weights[~inside])
        grown = grow(table[~inside], targets[~inside] - mean, weights[~inside], TREES_PER_PART, rng)
        values[inside] = grown.values(table[inside])
        forests.append(grown)
    return averaged(forests), values
