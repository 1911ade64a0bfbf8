"""The choice of a model as a value: candidates with their numbers, other models with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from fleet.models.rules.priorities import Priorities
from fleet.money import NANODOLLARS
from fleet.routing.rules.pools import Rejection


class ModelWeights(NamedTuple):
    """The weights of quality, speed and cheapness for a task: Q (0.5 + c), S, 1 - Q - S.

    Or the contribution of each to a model's score.
    """

    quality: float
    speed: float
    cheapness: float


class ModelCandidate(NamedTuple):
    """A model that could answer, with its numbers.

    `quality` and `speed` are the scored figures: the catalogue's, moved by evidence, and under the
    policy `thompson` a random draw. `quality_sd` is the standard deviation of the quality before
    the draw, and `quality_mean` its mean, None in a decision that was stored without it. `rewards`
    and `calls` count the evidence for both figures.
    """

    model: str
    provider: str
    score: float
    cost_nanodollars: int
    input_tokens: int
    output_tokens: int
    quality: float
    speed: float
    quality_sd: float = 0.0
    rewards: float = 0.0
    calls: float = 0.0
    quality_mean: float | None = None

    @property
    def strength(self) -> float:
        """The mean quality of the model, independent of any draw: 0 to 1."""
        return self.quality if self.quality_mean is None else self.quality_mean

    def terms(self, weights: ModelWeights) -> ModelWeights:
        """The contributions of quality, speed and cheapness to the score."""
        return ModelWeights(
            self.quality * weights.quality,
            self.speed * weights.speed,
            cheapness(self.cost_nanodollars) * weights.cheapness,
        )


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """The models that may serve, best first, and those that may not, by name.

    A `Rejection` here names a model. `weights` is None in a decision that was stored without them.
    `reserves` are the rejected models that only cool down, best first: a longer run may call them
    once they are ready. `priorities` have the origin of the weights; None if the decision is for no
    task, or was stored without them.
    """

    ranking: tuple[ModelCandidate, ...]
    rejected: tuple[Rejection, ...] = ()
    weights: ModelWeights | None = None
    policy: str = "mean"
    limit_nanodollars: int | None = None
    reserves: tuple[ModelCandidate, ...] = ()
    priorities: Priorities | None = None

    @property
    def best(self) -> ModelCandidate:
        """The chosen model with its numbers."""
        return self.ranking[0]

    @property
    def model(self) -> str:
        """The name of the chosen model."""
        return self.ranking[0].model

    @property
    def second_costs_more(self) -> int | None:
        """The extra cost of the second model in nano-dollars; negative if it is cheaper."""
        if len(self.ranking) < 2:
            return None
        return self.ranking[1].cost_nanodollars - self.best.cost_nanodollars

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; a candidate is the list of its fields in order."""
        return {
            "ranking": self.ranking,
            "rejected": self.rejected,
            "weights": self.weights,
            "policy": self.policy,
            "limit_nanodollars": self.limit_nanodollars,
            "reserves": self.reserves,
            "priorities": self.priorities,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also after a round trip through text."""
        weights, priorities = stored.get("weights"), stored.get("priorities")
        return cls(
            tuple(ModelCandidate(*each) for each in stored["ranking"]),
            tuple(Rejection(*each) for each in stored["rejected"]),
            ModelWeights(*weights) if weights else None,
            stored.get("policy", "mean"),
            stored.get("limit_nanodollars"),
            tuple(ModelCandidate(*each) for each in stored.get("reserves", ())),
            Priorities(*priorities) if priorities else None,
        )


def cheapness(cost_nanodollars: int) -> float:
    """1 / (1 + cost in dollars)."""
    return 1.0 / (1.0 + cost_nanodollars / NANODOLLARS)
