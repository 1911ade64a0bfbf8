"""A language model as the catalogue describes it, and the reference catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.errors import InvalidConfig
from fleet.money import Price, Tokens

CAPABILITIES = frozenset({"tools", "structured_output", "vision"})


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue.

    `quality` and `speed` are 0 to 1. `efficiency` is the number of tokens it takes for one token of
    an average model. A `free` model costs nothing. `context_tokens` is the window for input and
    output together, None if unknown. `capabilities` are some of `CAPABILITIES`. `region` is empty
    if unknown. Only the named `tenants` may use it; all if none is named. `key_ids` identify the
    provider's keys without revealing them. `absent` says why the model is not available here; empty
    if it is. Only a free or an absent model may have no price.
    """

    name: str
    provider: str
    price: Price | None
    quality: float
    speed: float
    efficiency: float = 1.0
    free: bool = False
    context_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    region: str = ""
    tenants: frozenset[str] = frozenset()
    key_ids: tuple[str, ...] = ()
    absent: str = ""


def cost_nanodollars(model: Model, used: Tokens) -> int:
    """The cost of these tokens, rounded up to a whole nanodollar, so that it is never understated.

    Raises `InvalidConfig` for a model that is not free and has no price: its cost is not 0.
    """
    if model.free:
        return 0
    if model.price is None:
        raise InvalidConfig(f"no price is known for model {model.name}; configure one")
    return model.price.cost(used)


def upper_bound_nanodollars(model: Model, worst: Tokens) -> int:
    """The upper bound of the cost of a call with at most these tokens, of any kind.

    Raises `InvalidConfig` as `cost_nanodollars` does.
    """
    if model.free or model.price is None:
        return cost_nanodollars(model, worst)
    return model.price.most(worst.input, worst.output)


def cut_nanodollars(model: Model, used: Tokens) -> int:
    """The upper bound of the cost of a call with known input and a known amount of output.

    Raises `InvalidConfig` as `cost_nanodollars` does.
    """
    thought = used._replace(reasoning=used.output)
    return max(cost_nanodollars(model, used), cost_nanodollars(model, thought))


def _reference(
    name: str,
    provider: str,
    prices: tuple[float, float],
    quality: float,
    speed: float,
    efficiency: float,
) -> Model:
    price = Price.per_thousand(*prices)
    return Model(
        name, provider, price, quality, speed, efficiency, capabilities=CAPABILITIES
    )


REFERENCE_CATALOGUE: tuple[Model, ...] = (
    _reference("gpt-5", "openai", (0.002, 0.006), 0.95, 0.80, 1.0),
    _reference("gpt-4o", "openai", (0.0015, 0.002), 0.90, 0.90, 1.1),
    _reference("claude-opus-4.1", "anthropic", (0.015, 0.075), 0.92, 0.70, 0.9),
    _reference("claude-sonnet-3.5", "anthropic", (0.003, 0.015), 0.88, 0.85, 1.0),
    _reference("gemini-2.0-flash", "google", (0.001, 0.002), 0.85, 0.95, 1.2),
)
