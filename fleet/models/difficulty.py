"""Learns which tasks need a better model from the examples that the workers have recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from fleet.errors import InvalidRequest
from fleet.models.examples_store import Example
from fleet.models.rules.catalogue import Model
from fleet.models.rules.difficulty.text_features import Sketch
from fleet.models.rules.difficulty.training import Outcome, TrainingReport, train
from fleet.models.rules.learning import ChoicePolicy, ModelFacts, posterior

UNKNOWN_QUALITY = 0.5

log = structlog.get_logger(__name__)

Qualities = Mapping[tuple[str, str], float]
"""What is believed of a model on a request type, 0 to 1, by (model, request type)."""


class Recorded(Protocol):
    """Where examples are read from: `fleet.models.examples_store.Examples` and its like."""

    def read(self) -> Sequence[Example]: ...


def train_difficulty(
    examples: Recorded, qualities: Qualities, save: Callable[[bytes], object]
) -> TrainingReport:
    """Learn from all recorded examples, and hand the stored form of the model to `save`.

    A model that `qualities` does not name counts as middling. Raises `InvalidRequest`, and saves
    nothing, where the examples do not suffice or do not tell the models apart.
    """
    trained = train(outcomes(examples.read(), qualities))
    save(trained.model.to_bytes())
    return trained.report


def believed(
    models: Iterable[Model],
    request_types: Iterable[str],
    facts: ModelFacts,
    policy: ChoicePolicy,
    now: float,
) -> dict[tuple[str, str], float]:
    """The quality by which the choice of a model goes now: the catalogue's, moved by evidence."""
    names = tuple(request_types)
    return {
        (each.name, name): posterior(
            each.quality, each.speed, facts.evidence.get((each.name, name)), policy, now
        ).quality
        for each in models
        for name in names
    }


def outcomes(examples: Iterable[Example], qualities: Qualities) -> list[Outcome]:
    """The examples as the core learns from them. Those of another version's sketch are left out."""
    found, foreign = [], 0
    for each in examples:
        try:
            sketch = Sketch.from_bytes(each.sketch)
        except InvalidRequest:
            foreign += 1
            continue
        quality = qualities.get((each.model, each.request_type), UNKNOWN_QUALITY)
        found.append(Outcome(sketch, each.request_type, each.model, each.reward, quality))
    if foreign:
        log.warning("examples of another version left out", count=foreign)
    return found
