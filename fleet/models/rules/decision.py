"""The choice of a model as a value: every candidate with its numbers, every other with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from fleet.models.rules.priorities import Priorities
from fleet.money import NANODOLLARS
from fleet.routing.rules.pools import Rejection


class ModelWeights(NamedTuple):
    """What a model's quality, speed and cheapness count for a task: Q (0.5 + c), S, 1 - Q - S.

    Or what each of them adds to a model's score.
    """

    quality: float
    speed: float
    cheapness: float


class ModelCandidate(NamedTuple):
    """A model that could answer, with its numbers.

    `quality` and `speed` are those that were scored: the catalogue's, moved by what was learned,
    and under the policy `thompson` a draw. `quality_sd` is the standard deviation of the quality
    before any draw, and `quality_mean` what is believed of it then, None in a decision that was
    stored without; `rewards` and `calls` count the evidence behind both figures.
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
        """The quality that is believed of the model, whatever was drawn: 0 to 1."""
        return self.quality if self.quality_mean is None else self.quality_mean

    def terms(self, weights: ModelWeights) -> ModelWeights:
        """What quality, speed and cheapness add to the score."""
        return ModelWeights(
            self.quality * weights.quality,
            self.speed * weights.speed,
            cheapness(self.cost_nanodollars) * weights.cheapness,
        )


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """The models that may serve, best first, and those that may not, by name.

    A `Rejection` here names a model. `weights` is None in a decision that was stored without.
    `reserves` are those of the rejected that only cool down, best first: a run that takes longer
    may ask them once they are ready. `priorities` say whose word the weights are, None where
    nobody asked on a task's behalf, or in a decision that was stored without.
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
        """Nano-dollars that second place would cost beyond the first; under 0 where it is less."""
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
