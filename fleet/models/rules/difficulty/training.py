"""Learns from the outcomes of tasks which texts need a better model, and checks the evidence.

The record has the reward of one model's answer for each task, never that of another model. A text
is more difficult if better models are expected to gain more on it (`gains`). The complexity c is
the share of texts with a smaller gain. A model's score contains quality x Q (0.5 + c), so a better
model is chosen above some c, which the priorities set.

    comparable   outcomes of a request type that at least two models have answered LEAST_OF_MODEL
                 times each, if the fleet does not believe that they are equally good
    evidence     `evidence.evidence`, for the learned estimate and for the length of the text
    nothing      is learned if neither beats chance
    words        are used alone if they are significantly better than the length
    both         are used otherwise, weighted by what each explains of the observed gains: with few
                 outcomes the length may explain more than the words
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fleet.errors import InvalidRequest
from fleet.models.rules.difficulty.evidence import Evidence, evidence, parts_of
from fleet.models.rules.difficulty.gains import Gains, Record, gains
from fleet.models.rules.difficulty.model import SHARES, DifficultyModel
from fleet.models.rules.difficulty.ridge import Floats, Texts
from fleet.models.rules.difficulty.text_features import Sketch

LEAST_EXAMPLES = 50
LEAST_OF_MODEL = 20
PASSED = 0.5
SPREAD = (0.05, 0.5, 0.95)

Kind = tuple[str, str]
"""A request type and a model."""


class TaskOutcome(NamedTuple):
    """The outcome of one task. `reward` is 0 to 1. `quality`, 0 to 1, is the fleet's belief about
    the model on the request type. `weight` is above 0."""

    sketch: Sketch
    request_type: str
    model: str
    reward: float
    quality: float = 0.5
    weight: float = 1.0


class TrainingReport(NamedTuple):
    """The data of a training, and the evidence on tasks that were held out.

    `counts` has all outcomes by (request type, model). `examples` of them are comparable and were
    used; `passed` of these had a reward of at least a half. `words` is the weight, 0 to 1, of the
    words in the estimates; the rest is the weight of the length. `text` and `length` are the
    evidence for both. `spread` has the quantiles of the estimates at 5, 50 and 95 %.
    """

    examples: int
    passed: int
    counts: Mapping[Kind, int]
    words: float
    text: Evidence
    length: Evidence
    spread: tuple[float, ...]


class Trained(NamedTuple):
    """A model, and its evaluation on outcomes that were held out."""

    model: DifficultyModel
    report: TrainingReport


def train(outcomes: Sequence[TaskOutcome]) -> Trained:
    """Learn which texts need a better model.

    Raises `InvalidRequest` for a reward outside 0 to 1 or a weight that is not above 0, and if the
    outcomes are too few, all equal, or no evidence for a difference between the models.
    """
    counts = Counter((each.request_type, each.model) for each in outcomes)
    _check(outcomes)
    _check_enough(outcomes)
    compared = comparable(outcomes, counts)
    _check_enough(compared)
    rewards = np.array([each.reward for each in compared])
    if np.ptp(rewards) == 0.0:
        raise InvalidRequest(
            "all examples ended alike, so there is nothing to tell apart; record both tasks "
            "that passed and tasks that did not"
        )
    record = _record(compared)
    found = gains(record)
    lengths = np.array([each.sketch.length for each in compared], np.float64)
    text, length = evidence(found.expected, found.observed), evidence(lengths, found.observed)
    _check_evidence(text, length, counts)
    parts = parts_of(found.expected, lengths, found.observed)
    model, values = _model(record.texts, found, lengths, parts)
    report = TrainingReport(
        examples=len(compared),
        passed=int((rewards >= PASSED).sum()),
        counts=counts,
        words=parts[0] / sum(parts),
        text=text,
        length=length,
        spread=tuple(np.quantile([model.share(each) for each in values], SPREAD).tolist()),
    )
    return Trained(model, report)


def _model(
    texts: Texts, found: Gains, lengths: Floats, parts: tuple[float, float]
) -> tuple[DifficultyModel, Floats]:
    """The model that mixes words and length by their parts, and its values out of fold."""
    words, length = (
        part / (column.std() or 1.0)
        for part, column in zip(parts, (found.expected, lengths), strict=True)
    )
    values = words * found.expected + length * lengths
    added = texts.idf * np.vstack((words * found.words, found.usual))
    halves = np.vstack((texts.idf**2, added)).T.astype(np.float16).astype(np.float32)
    bend = float(words * found.bend)
    return DifficultyModel(halves, bend, float(length), np.quantile(values, SHARES)), values


def comparable(outcomes: Sequence[TaskOutcome], counts: Mapping[Kind, int]) -> list[TaskOutcome]:
    """The outcomes that allow to compare models; see the head of this module.

    Raises `InvalidRequest` if there are none.
    """
    enough = {kind for kind, count in counts.items() if count >= LEAST_OF_MODEL}
    beliefs: dict[str, dict[str, float]] = {}
    for each in outcomes:
        if (each.request_type, each.model) in enough:
            beliefs.setdefault(each.request_type, {})[each.model] = each.quality
    told = {name for name, models in beliefs.items() if len(set(models.values())) > 1}
    found = [each for each in outcomes if each.request_type in told and each.model in
             beliefs[each.request_type]]  # fmt: skip
    if found:
        return found
    raise InvalidRequest(f"{_why_not(beliefs, counts)}. Nothing was learned, nothing is changed")


def _why_not(beliefs: Mapping[str, Mapping[str, float]], counts: Mapping[Kind, int]) -> str:
    if any(len(models) > 1 for models in beliefs.values()):
        return (
            "the models on record are believed to be equally good, so that no task needs one more "
            "than another; give them their quality in the catalogue"
        )
    shown = ", ".join(f"{count} of {model} on {kind}" for (kind, model), count in counts.items())
    return (
        f"no request type has outcomes of two models, at least {LEAST_OF_MODEL} of each, so the "
        f"record cannot tell which task needs which ({shown}); let both answer some: `policy = "
        '"thompson"` under [models] does, or `fleet submit --model`'
    )


def _check_evidence(text: Evidence, length: Evidence, counts: Mapping[Kind, int]) -> None:
    if text.beats_chance or length.beats_chance:
        return
    raise InvalidRequest(
        f"the {sum(counts.values())} outcomes do not tell yet which tasks need a better model: "
        f"from the easiest task to the most difficult one its advantage grows by {_points(text)}, "
        f"by length alone by {_points(length)}, which is no more than chance. Nothing was learned, "
        "nothing is changed; try again with more outcomes"
    )


def _points(found: Evidence) -> str:
    return f"{100 * found.gain:.0f} points (standard error {100 * found.error:.0f})"


def _check_enough(outcomes: Sequence[TaskOutcome]) -> None:
    if len(outcomes) < LEAST_EXAMPLES:
        raise InvalidRequest(
            f"{len(outcomes)} examples are too few to learn difficulty from; record at least "
            f"{LEAST_EXAMPLES}"
        )


def _check(outcomes: Sequence[TaskOutcome]) -> None:
    if not all(0.0 <= each.reward <= 1.0 for each in outcomes):
        raise InvalidRequest("a reward is outside 0 to 1; leave such outcomes out")
    if not all(each.weight > 0.0 for each in outcomes):
        raise InvalidRequest("an outcome's weight is not above 0; leave such outcomes out")


def _record(outcomes: Sequence[TaskOutcome]) -> Record:
    """The arrays of `gains.Record`."""
    models = sorted({each.model for each in outcomes})
    places: dict[str, list[int]] = {}
    for place, each in enumerate(outcomes):
        places.setdefault(each.request_type, []).append(place)
    candidate = np.array([models.index(each.model) for each in outcomes])
    rewards = np.array([each.reward for each in outcomes])
    weights = np.array([each.weight for each in outcomes])
    quality = np.array([each.quality for each in outcomes])
    answered = np.eye(len(models))[candidate]
    shares = np.zeros(answered.shape)
    directions = np.zeros(shares.shape)
    centred = rewards.copy()
    for members in map(np.array, places.values()):
        held = answered[members].T @ weights[members]
        believed = answered[members].T @ (weights * quality)[members]
        shares[members] = held / held.sum()
        directions[members] = _directions(held, believed / np.maximum(held, 1e-12))
        for model in np.flatnonzero(held):
            its = members[candidate[members] == model]
            centred[its] -= np.average(rewards[its], weights=weights[its])
    texts = Texts.of([each.sketch for each in outcomes])
    return Record(texts, candidate, centred, weights, shares, directions)


def _directions(held: Floats, quality: Floats) -> Floats:
    """How each model counts in a request type's gain: see the head of `gains`."""
    ahead = held * (quality - np.average(quality, weights=held))
    return np.asarray(ahead / ahead[ahead > 0.0].sum())
