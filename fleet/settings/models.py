"""What fleet.toml may say about models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.settings.names import Capability, Fraction, Name, Seconds, TenantName
from fleet.settings.section import Section


class TenantModels(Section):
    """What matters for one tenant when a model is chosen; what is left out, all others' word."""

    quality_priority: Fraction | None = None
    speed_priority: Fraction | None = None


class Models(Section):
    """Which catalogue to choose from, what matters when choosing, and how outcomes count.

    `prior_strength` is what the catalogue's figures weigh, as a number of tasks. `tenants` have
    priorities of their own.
    """

    catalogue: Literal["configured", "reference"] = "configured"
    quality_priority: Fraction = 0.7
    speed_priority: Fraction = 0.3
    policy: Literal["mean", "thompson"] = "mean"
    quality_floor: Fraction = 0.0
    prior_strength: Annotated[float, Field(gt=0, le=1_000_000)] = 10.0
    learn_half_life_seconds: Seconds = 7 * 86400.0
    escalate: bool = True
    regions: tuple[str, ...] = ()
    tenants: dict[TenantName, TenantModels] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _priorities(self) -> Self:
        total = self.quality_priority + self.speed_priority
        if total > 1 + 1e-9:
            raise ValueError(
                f"quality_priority + speed_priority is {total:g}; together they may be at most 1, "
                "the rest is the weight of a low cost"
            )
        return self


class CatalogueModel(Section):
    """One model: who serves it, how good and quick it is (0 to 1), what it costs and can do.

    Prices are a contract's, in US dollars for a thousand tokens; without them those of
    genai-prices hold, and its context window where none is given.
    """

    provider: Name
    quality: Fraction
    speed: Fraction
    efficiency: Annotated[float, Field(gt=0, le=10)] = 1.0
    input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    output_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cached_input_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cache_write_price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    free: bool = False
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    capabilities: tuple[Capability, ...] = ()
    region: str = ""
    tenants: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _prices_come_together(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("give both input_price and output_price, or neither")
        for name in ("cached_input_price", "cache_write_price"):
            if getattr(self, name) is not None and self.input_price is None:
                raise ValueError(f"{name} needs input_price and output_price beside it")
        if self.free and self.input_price:
            raise ValueError(f"free is set, and so is input_price ({self.input_price:g}); drop one")
        return self
