"""Which language model answers a task: the best score of quality, speed and cost.

    tokens = base(task type) x (0.5 + 1.5 c) x efficiency, rounded down, input and output each
    cost   = input / 1000 x input price + output / 1000 x output price
    score  = quality x Q (0.5 + c) + speed x S + (1 / (1 + cost)) x (1 - Q - S)

c is the complexity, Q the quality priority, S the speed priority. Tokens and costs are
worked out in whole numbers from the decimals that were written down: in binary fractions
500 x 1.55 may fall short of 775 and lose a token to the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, Self

from fleet.core.pools import Rejection
from fleet.errors import InvalidConfig, InvalidRequest, OverBudget

NANODOLLARS = 10**9
PRICED_TOKENS = 1000
ROUNDING = 1e-9


class Tokens(NamedTuple):
    """Tokens of one answer: what goes in and what comes out."""

    input: int
    output: int


GENERAL = "general"
BASE_TOKENS: Mapping[str, Tokens] = {
    "code_generation": Tokens(500, 2000),
    "security_analysis": Tokens(1000, 1500),
    "performance_testing": Tokens(800, 1200),
    GENERAL: Tokens(300, 800),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue.

    Prices are US dollars for a thousand tokens, `quality` and `speed` 0 to 1, `efficiency`
    how many tokens it takes where a plain model takes one. A `free` one costs nothing.
    """

    name: str
    provider: str
    input_price: float
    output_price: float
    quality: float
    speed: float
    efficiency: float = 1.0
    free: bool = False


REFERENCE_CATALOGUE: tuple[Model, ...] = (
    Model("gpt-5", "openai", 0.002, 0.006, 0.95, 0.80, 1.0),
    Model("gpt-4o", "openai", 0.0015, 0.002, 0.90, 0.90, 1.1),
    Model("claude-opus-4.1", "anthropic", 0.015, 0.075, 0.92, 0.70, 0.9),
    Model("claude-sonnet-3.5", "anthropic", 0.003, 0.015, 0.88, 0.85, 1.0),
    Model("gemini-2.0-flash", "google", 0.001, 0.002, 0.85, 0.95, 1.2),
)


class ModelCandidate(NamedTuple):
    """A model that could answer, with its numbers."""

    model: str
    provider: str
    score: float
    cost_nanodollars: int
    input_tokens: int
    output_tokens: int
    quality: float
    speed: float


@dataclass(frozen=True, slots=True)
class ModelDecision:
    """The models that fit the limit, best first, and those that cost too much.

    A `Rejection` here names a model.
    """

    ranking: tuple[ModelCandidate, ...]
    rejected: tuple[Rejection, ...] = ()

    @property
    def best(self) -> ModelCandidate:
        """The chosen model with its numbers."""
        return self.ranking[0]

    @property
    def model(self) -> str:
        """The name of the chosen model."""
        return self.ranking[0].model

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; a candidate is the list of its fields in order."""
        return {"ranking": self.ranking, "rejected": self.rejected}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`, also after a round trip through text."""
        return cls(
            tuple(ModelCandidate(*each) for each in stored["ranking"]),
            tuple(Rejection(*each) for each in stored["rejected"]),
        )


def tokens(task_type: str, complexity: float, efficiency: float) -> Tokens:
    """What a task takes. An unknown task type counts as `general`.

    Raises `InvalidRequest` for a complexity outside 0..1.
    """
    return _demand(task_type, complexity).taken(efficiency)


def cost_nanodollars(model: Model, used: Tokens) -> int:
    """What these tokens cost, rounded up to a whole nanodollar: a debt is never understated."""
    if model.free:
        return 0
    input_above, output_above, below = _prices(model.input_price, model.output_price)
    return -(-(used.input * input_above + used.output * output_above) // below)


def choose(
    models: Iterable[Model],
    task_type: str,
    complexity: float = 0.5,
    quality_priority: float = 0.7,
    speed_priority: float = 0.3,
    limit_nanodollars: int | None = None,
) -> ModelDecision:
    """Score every model and take the best; equal scores go to the cheaper, then by name.

    Raises `InvalidConfig` for an empty catalogue, `InvalidRequest` for a complexity or a
    priority out of range, `OverBudget` where every model costs more than the limit.
    """
    priorities = _priorities(complexity, quality_priority, speed_priority)
    demand = _demand(task_type, complexity)
    candidates = [_candidate(model, demand, priorities) for model in models]
    if not candidates:
        raise InvalidConfig("the model catalogue is empty; configure at least one model")
    candidates.sort(key=lambda each: (-each.score, each.cost_nanodollars, each.model))
    if limit_nanodollars is None:
        return ModelDecision(tuple(candidates))
    fitting = tuple(each for each in candidates if each.cost_nanodollars <= limit_nanodollars)
    if not fitting:
        raise _nothing_fits(candidates, limit_nanodollars)
    dear = (each for each in candidates if each.cost_nanodollars > limit_nanodollars)
    return ModelDecision(fitting, tuple(_too_dear(each, limit_nanodollars) for each in dear))


class _Demand(NamedTuple):
    """A task's tokens before a model's efficiency, as fractions over one whole number."""

    input: int
    output: int
    below: int

    def taken(self, efficiency: float) -> Tokens:
        times, over = _ratio(efficiency)
        over *= self.below
        return Tokens(self.input * times // over, self.output * times // over)


def _demand(task_type: str, complexity: float) -> _Demand:
    if not 0.0 <= complexity <= 1.0:
        raise InvalidRequest(f"complexity is {complexity!r}; give a number from 0 to 1")
    base = BASE_TOKENS.get(task_type, BASE_TOKENS[GENERAL])
    above, below = _ratio(complexity)
    # 0.5 + 1.5 a/b = (b + 3a) / 2b
    factor = below + 3 * above
    return _Demand(base.input * factor, base.output * factor, 2 * below)


class _Priorities(NamedTuple):
    """What a model's quality, speed and cheapness count for a given task."""

    quality: float
    speed: float
    cheapness: float


def _priorities(complexity: float, quality: float, speed: float) -> _Priorities:
    if not (0.0 <= quality <= 1.0 and 0.0 <= speed <= 1.0 and quality + speed <= 1.0 + ROUNDING):
        raise InvalidRequest(
            f"quality priority {quality!r} and speed priority {speed!r}: give each from 0 to 1, "
            "and both together at most 1"
        )
    # 1 - 0.8 - 0.2 is a little under 0 in binary fractions, and would reward a high cost.
    rest = 1.0 - quality - speed
    return _Priorities(quality * (0.5 + complexity), speed, rest if rest > ROUNDING else 0.0)


def _candidate(model: Model, demand: _Demand, priorities: _Priorities) -> ModelCandidate:
    used = demand.taken(model.efficiency)
    cost = cost_nanodollars(model, used)
    score = (
        model.quality * priorities.quality
        + model.speed * priorities.speed
        + priorities.cheapness / (1.0 + cost / NANODOLLARS)
    )
    return ModelCandidate(
        model.name, model.provider, score, cost, used.input, used.output, model.quality, model.speed
    )


def _too_dear(candidate: ModelCandidate, limit: int) -> Rejection:
    cost = _dollars(candidate.cost_nanodollars)
    return Rejection(candidate.model, f"would cost {cost}, over the limit of {_dollars(limit)}")


def _nothing_fits(candidates: list[ModelCandidate], limit: int) -> OverBudget:
    cheapest = min(candidates, key=lambda each: (each.cost_nanodollars, each.model))
    return OverBudget(
        f"no model fits the limit of {_dollars(limit)}: the cheapest, {cheapest.model}, would cost "
        f"{_dollars(cheapest.cost_nanodollars)}; raise the limit or lower the complexity"
    )


def _dollars(nanodollars: int) -> str:
    return f"${(Decimal(nanodollars) / NANODOLLARS).normalize():f}"


@lru_cache(maxsize=4096)
def _ratio(value: float) -> tuple[int, int]:
    """The decimal fraction that a number is written as, as two whole numbers."""
    return Decimal(repr(float(value))).as_integer_ratio()


@lru_cache(maxsize=1024)
def _prices(input_price: float, output_price: float) -> tuple[int, int, int]:
    """Nanodollars for one token in and one out, as whole numbers over a third."""
    input_above, input_below = _ratio(input_price)
    output_above, output_below = _ratio(output_price)
    return (
        input_above * output_below * NANODOLLARS,
        output_above * input_below * NANODOLLARS,
        input_below * output_below * PRICED_TOKENS,
    )
