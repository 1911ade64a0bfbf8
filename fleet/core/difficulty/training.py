"""Learning difficulty from what became of tasks: which model answered, and how good it was.

    expected = (PRIOR_COUNT q + sum of w r) / (PRIOR_COUNT + sum of w)
    target   = expected - r

r is the reward of an answer, w its weight, q the quality that the catalogue gives the model; the
sums are over all outcomes of that model on that request type. So a failure of a model that seldom
fails says more than one of a model that often does, and a success of a weak model says more than
one of a strong model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.core.difficulty.fitting import fit
from fleet.core.difficulty.model import DifficultyModel
from fleet.core.difficulty.ridge import Floats
from fleet.core.difficulty.text_features import Sketch
from fleet.errors import InvalidRequest

PRIOR_COUNT = 10.0
PASSED = 0.5
SPREAD = (0.05, 0.5, 0.95)


class Outcome(NamedTuple):
    """What became of one task. `reward` and the model's `quality` are 0 to 1, `weight` above 0."""

    sketch: Sketch
    request_type: str
    model: str
    reward: float
    quality: float = 0.5
    weight: float = 1.0


class TrainingReport(NamedTuple):
    """What was learned from, and how well it tells tasks apart that it has not seen.

    `counts` is by (request type, model). `auc` is the chance that of a task that failed (a reward
    under a half) and one that passed, the failed one is estimated as the more difficult; nan
    where one of the two is missing. `correlation` is between estimate and target. `spread` are
    the estimates that 5, 50 and 95 % lie below.
    """

    examples: int
    passed: int
    counts: Mapping[tuple[str, str], int]
    auc: float
    correlation: float
    spread: tuple[float, ...]


class Trained(NamedTuple):
    """A model and how it was found to be, on outcomes that it had not learned from."""

    model: DifficultyModel
    report: TrainingReport


def train(outcomes: Sequence[Outcome], rng: np.random.Generator) -> Trained:
    """Learn which texts are difficult.

    Raises `InvalidRequest` for a reward outside 0..1 or a weight that is not above 0, and where
    there are too few outcomes or all of them are of one kind.
    """
    rewards = np.array([each.reward for each in outcomes], np.float64)
    if not ((rewards >= 0.0) & (rewards <= 1.0)).all():
        raise InvalidRequest("a reward is outside 0 to 1; leave such outcomes out")
    weights = np.array([each.weight for each in outcomes], np.float64)
    if not (weights > 0.0).all():
        raise InvalidRequest("an outcome's weight is not above 0; leave such outcomes out")
    # Models of different quality make different targets of equal rewards, which tell nothing.
    targets = _targets(outcomes, rewards) if len(set(rewards.tolist())) > 1 else rewards
    sketches = [each.sketch for each in outcomes]
    fitted = fit(sketches, targets[:, None], np.ones(1), weights, rng)
    passed = rewards >= PASSED
    report = TrainingReport(
        examples=len(outcomes),
        passed=int(passed.sum()),
        counts=Counter((each.request_type, each.model) for each in outcomes),
        auc=area_under_curve(fitted.out_of_fold[~passed], fitted.out_of_fold[passed]),
        correlation=_correlation(fitted.out_of_fold, targets),
        spread=tuple(np.quantile(fitted.out_of_fold, SPREAD).tolist()),
    )
    return Trained(fitted.model, report)


def area_under_curve(higher: Floats, lower: Floats) -> float:
    """The chance that one of `higher` is above one of `lower`, ties half (Mann and Whitney)."""
    if not len(higher) or not len(lower):
        return float("nan")
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.sum() / (2 * len(higher) * len(lower)))


def _targets(outcomes: Sequence[Outcome], rewards: Floats) -> Floats:
    """How much worse than expected of its model each answer was; see the head of this module."""
    groups: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(outcomes):
        groups.setdefault((each.request_type, each.model), []).append(place)
    targets = np.empty(len(outcomes))
    for members in groups.values():
        targets[members] = _expected(outcomes, members) - rewards[members]
    return targets


def _expected(outcomes: Sequence[Outcome], members: Sequence[int]) -> float:
    held = [outcomes[place] for place in members]
    rewarded = sum(each.weight * each.reward for each in held)
    prior = PRIOR_COUNT * held[0].quality
    return (prior + rewarded) / (PRIOR_COUNT + sum(each.weight for each in held))


def _correlation(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    if np.ptp(left) == 0.0 or np.ptp(right) == 0.0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
