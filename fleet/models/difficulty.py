"""Learns from the examples that workers record which tasks need a better model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from fleet.errors import InvalidRequest
from fleet.models.examples_store import Example
from fleet.models.rules.catalogue import Model
from fleet.models.rules.difficulty.text_features import Sketch
from fleet.models.rules.difficulty.training import TaskOutcome, TrainingReport, train
from fleet.models.rules.learning import ChoicePolicy, ModelFacts, posterior
from fleet.telemetry.logger import get_logger

UNKNOWN_QUALITY = 0.5

log = get_logger(__name__)

Qualities = Mapping[tuple[str, str], float]
"""The believed quality of a model on a request type, 0 to 1, by (model, request type)."""


class RecordedExample(Protocol):
    """The source of examples, such as `fleet.models.examples_store.Examples`."""

    def read(self) -> Sequence[Example]: ...


def train_difficulty(
    examples: RecordedExample, qualities: Qualities, save: Callable[[bytes], object]
) -> TrainingReport:
    """Learn from all recorded examples, and pass the stored form of the model to `save`.

    A model without an entry in `qualities` has the quality 0.5. Raises `InvalidRequest`, and saves
    nothing, if the examples are too few or show no difference between the models.
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
    """The quality that the choice of a model uses now: the catalogue's, updated by evidence."""
    names = tuple(request_types)
    return {
        (each.name, name): posterior(
            each.quality, each.speed, facts.evidence.get((each.name, name)), policy, now
        ).quality
        for each in models
        for name in names
    }


def outcomes(examples: Iterable[Example], qualities: Qualities) -> list[TaskOutcome]:
    """The examples as outcomes to learn from, without those of another version of the sketch."""
    found, foreign = [], 0
    for each in examples:
        try:
            sketch = Sketch.from_bytes(each.sketch)
        except InvalidRequest:
            foreign += 1
            continue
        quality = qualities.get((each.model, each.request_type), UNKNOWN_QUALITY)
        found.append(TaskOutcome(sketch, each.request_type, each.model, each.reward, quality))
    if foreign:
        log.warning("examples of another version left out", count=foreign)
    return found
