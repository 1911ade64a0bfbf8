"""What fleet.toml may say about models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.settings.names import Capability, Fraction, Name, Seconds, Section, TenantName

UsdPerMillion = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TenantModels(Section):
    """What matters for one tenant when a model is chosen. A key that is left out has the value of
    [models]."""

    quality_priority: Fraction | None = Field(
        None, description="The weight of quality.", examples=[0.8]
    )
    speed_priority: Fraction | None = Field(
        None, description="The weight of speed.", examples=[0.1]
    )


class Models(Section):
    """Which catalogue models are chosen from, what matters, and how outcomes count.

    The priorities of a submission come first, then those of its [request_types.NAME], then those of
    its [models.tenants.NAME], then these. Quality and speed together are at most 1. The rest is the
    weight of a low cost.
    """

    catalogue: Literal["configured", "reference"] = Field(
        "configured",
        description="configured: the models of [catalogue] whose provider has a key, else the "
        "local one. reference: the five of the reference table.",
    )
    quality_priority: Fraction = Field(0.7, description="The weight of quality.")
    speed_priority: Fraction = Field(0.3, description="The weight of speed.")
    policy: Literal["mean", "thompson"] = Field(
        "mean",
        description="mean: the best estimate of the quality of a model. thompson: a random draw, "
        "which also tries models that are less known.",
    )
    quality_floor: Fraction = Field(
        0.0, description="A model whose estimated quality is lower is never taken."
    )
    prior_strength: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        10.0, description="What the figures of the catalogue weigh, as a number of tasks."
    )
    learn_half_life_seconds: Seconds = Field(
        7 * 86400.0, description="After this time evidence counts half."
    )
    escalate: bool = Field(
        True, description="An answer that fails its check goes to the next stronger model."
    )
    regions: tuple[str, ...] = Field(
        (), description="Regions whose models may be used. Empty: all."
    )
    tenants: dict[TenantName, TenantModels] = Field(default_factory=dict, examples=["acme"])

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
    """One model of the catalogue, by its name.

    Prices are in US dollars for a thousand tokens. A price or a context window that is left out
    comes from genai-prices. A model without any price is refused unless it is free.
    """

    provider: Name = Field(description="A provider of [providers], or local.")
    quality: Fraction = Field(description="How good its answers are.")
    speed: Fraction = Field(description="How quick it is.")
    efficiency: Annotated[float, Field(gt=0, le=10)] = Field(
        1.0, description="The tokens that it takes where a plain model takes one."
    )
    input_price: UsdPerMillion | None = Field(
        None, description="The price of input tokens.", examples=[0.003]
    )
    output_price: UsdPerMillion | None = Field(
        None, description="The price of output tokens.", examples=[0.015]
    )
    cached_input_price: UsdPerMillion | None = Field(
        None,
        description="The price of input that the provider reads from its cache.",
        examples=[0.0003],
    )
    cache_write_price: UsdPerMillion | None = Field(
        None,
        description="The price of input that the provider writes to its cache.",
        examples=[0.004],
    )
    free: bool = Field(False, description="The model costs nothing.")
    context_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Its context window, in tokens.", examples=[128_000]
    )
    capabilities: tuple[Capability, ...] = Field(
        (), description="What it is capable of: the `needs` of request types."
    )
    region: str = Field("", description="Where it is served: any word, for models.regions.")
    tenants: tuple[Name, ...] = Field((), description="Tenants that alone may use it. Empty: all.")

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
