"""Learns tasks' difficulty from the examples that the workers have recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import structlog

from fleet.core.difficulty.text_features import Sketch
from fleet.core.difficulty.training import Outcome, TrainingReport, train
from fleet.errors import InvalidRequest
from fleet.state.examples import Example, Examples

SEED = 20
"""The trees' dice: the same examples make the same model."""

UNKNOWN_QUALITY = 0.5

log = structlog.get_logger(__name__)


def train_difficulty(
    examples: Examples, qualities: Mapping[str, float], save: Callable[[bytes], object]
) -> TrainingReport:
    """Learn from all recorded examples, and hand the stored form of the model to `save`.

    `qualities` is by model, 0 to 1; a model that it does not name counts as middling. Raises
    `InvalidRequest`, and saves nothing, where the examples do not suffice.
    """
    trained = train(outcomes(examples.read(), qualities), np.random.default_rng(SEED))
    save(trained.model.to_bytes())
    return trained.report


def outcomes(examples: Iterable[Example], qualities: Mapping[str, float]) -> list[Outcome]:
    """The examples as the core learns from them. Those of another version's sketch are left out."""
    found, foreign = [], 0
    for each in examples:
        try:
            sketch = Sketch.from_bytes(each.sketch)
        except InvalidRequest:
            foreign += 1
            continue
        quality = qualities.get(each.model, UNKNOWN_QUALITY)
        found.append(Outcome(sketch, each.request_type, each.model, each.reward, quality))
    if foreign:
        log.warning("examples of another version left out", count=foreign)
    return found
