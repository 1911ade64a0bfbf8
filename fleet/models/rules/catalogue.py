"""A language model as the catalogue describes it, and the reference catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.errors import InvalidConfig
from fleet.money import Price, Tokens

CAPABILITIES = frozenset({"tools", "structured_output", "vision"})


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the catalogue.

    `quality` and `speed` are 0 to 1, `efficiency` is how many tokens it takes where a plain model
    takes one. A `free` one costs nothing. `context_tokens` is what input and output may have
    together, None where that is not known; `capabilities` are of those named above; `region` is
    empty where it is not known; `tenants` may use it, all of them where none is named. `key_id`
    names the provider's key without telling it. `absent` says why the model cannot be had here,
    and is empty where it can. Only a free or an absent one may be without a price.
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
    key_id: str | None = None
    absent: str = ""


def cost_nanodollars(model: Model, used: Tokens) -> int:
    """What these tokens cost, rounded up to a whole nanodollar: a debt is never understated.

    Raises `InvalidConfig` for a model without a price that is not free: it is no 0.
    """
    if model.free:
        return 0
    if model.price is None:
        raise InvalidConfig(f"no price is known for model {model.name}; configure one")
    return model.price.cost(used)


def upper_bound_nanodollars(model: Model, worst: Tokens) -> int:
    """What a call costs at most that takes no more tokens than these, of whichever kind they are.

    Raises `InvalidConfig` as `cost_nanodollars` does.
    """
    if model.free or model.price is None:
        return cost_nanodollars(model, worst)
    return model.price.most(worst.input, worst.output)


def cut_nanodollars(model: Model, used: Tokens) -> int:
    """What a call costs at most whose input is known, and of whose output only how much it was.

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
