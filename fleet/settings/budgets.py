"""What fleet.toml may say about how much is spent and used."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.settings.names import Fraction, Name, Over, ScopeName, Section, TenantName

MAX_DOLLARS = 9_000_000
"""The scripts count nano-dollars exactly up to 2^53 of them."""

CHEAPER_MODELS = {"gpt-5": "gpt-4o", "claude-opus-4-1": "claude-sonnet-4-5"}
REFERENCE_CHEAPER_MODELS = {**CHEAPER_MODELS, "claude-opus-4.1": "claude-sonnet-3.5"}
"""The same for the reference catalogue."""

Dollars = Annotated[float, Field(gt=0, le=MAX_DOLLARS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Budget(Section):
    """What a tenant, an agent type or a model may use in a UTC hour, day or month.

    The name `*` stands for each that has no table of its own: `model:*`.
    """

    hourly_usd: Dollars | None = Field(None, description="US dollars in a UTC hour.", examples=[20])
    daily_usd: Dollars | None = Field(None, description="US dollars in a UTC day.", examples=[20])
    monthly_usd: Dollars | None = Field(
        None, description="US dollars in a UTC month.", examples=[20]
    )
    hourly_tokens: Count | None = Field(
        None, description="Tokens of input and output in a UTC hour.", examples=[1_000_000]
    )
    daily_tokens: Count | None = Field(
        None, description="Tokens of input and output in a UTC day.", examples=[1_000_000]
    )
    monthly_tokens: Count | None = Field(
        None, description="Tokens of input and output in a UTC month.", examples=[1_000_000]
    )
    hourly_requests: Count | None = Field(
        None, description="Model calls in a UTC hour.", examples=[5000]
    )
    daily_requests: Count | None = Field(
        None, description="Model calls in a UTC day.", examples=[5000]
    )
    monthly_requests: Count | None = Field(
        None, description="Model calls in a UTC month.", examples=[5000]
    )


class Rate(Section):
    """What a tenant, an agent type or a model may use in any 60 minutes and at once.

    The name `*` stands for each that has no table of its own: `tenant:*`.
    """

    usd: Dollars | None = Field(None, description="US dollars in 60 minutes.", examples=[100])
    tokens: Count | None = Field(
        None, description="Tokens of input and output in 60 minutes.", examples=[100_000]
    )
    requests: Count | None = Field(None, description="Model calls in 60 minutes.", examples=[1000])
    concurrent_tasks: Count | None = Field(
        None, description="Tasks at once, waiting ones included.", examples=[200]
    )


class BudgetRule(Section):
    """What happens to a model call that does not fit a budget, for the tasks of a request type, a
    tenant, or both. The narrowest rule that fits a task holds."""

    request_type: Name | None = Field(
        None, description="The request type of the tasks.", examples=["code_generation"]
    )
    tenant: TenantName | None = Field(
        None, description="The tenant of the tasks.", examples=["acme"]
    )
    over: Over = Field(description="As budgets.over, for these tasks.", examples=["wait"])

    @model_validator(mode="after")
    def _has_a_scope(self) -> Self:
        if self.request_type is None and self.tenant is None:
            raise ValueError("name a request_type, a tenant or both; for all there is budgets.over")
        return self


class Downgrades(Section):
    """When a task goes to a cheaper model, and to which."""

    over_usd: Dollars = Field(
        0.10, description="A task with a higher estimate goes to the cheaper model."
    )
    nearly: Fraction = Field(
        0.9,
        description="Every task goes to the cheaper model once this share of a dollar budget is "
        "used.",
    )
    models: dict[str, str] = Field(
        default_factory=lambda: dict(CHEAPER_MODELS),
        description="The cheaper model for each model of the catalogue. Of the default only "
        "pairs whose models are both in the catalogue count.",
    )

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Self:
        for model in self.models:
            seen = [model]
            while seen[-1] in self.models:
                seen.append(self.models[seen[-1]])
                if seen[-1] in seen[:-1]:
                    circle = " -> ".join(seen[seen.index(seen[-1]) :])
                    raise ValueError(f"models goes in a circle: {circle}; leave one of them out")
        return self


class Budgets(Budget):
    """What all tasks together may use in a UTC hour, day or month, by Redis's clock.

    A model call that does not fit is not made. `fleet budget set` and `fleet limits set` change
    limits while the fleet runs.
    """

    daily_usd: Dollars = Field(500, description="US dollars in a UTC day.")
    monthly_usd: Dollars = Field(15000, description="US dollars in a UTC month.")
    task_usd: Dollars | None = Field(
        None, description="What a task without max_cost_usd may cost.", examples=[1.0]
    )
    task_tokens: Count | None = Field(
        None, description="Tokens of input and output of each task.", examples=[100_000]
    )
    task_requests: Count | None = Field(
        None, description="Model calls of each task.", examples=[20]
    )
    redis_away: Literal["closed", "open"] = Field(
        "closed",
        description="closed: no model call without Redis. open: tasks that run go on, unadmitted.",
    )
    over: Over = Field(
        "downgrade",
        description="What happens to a model call that does not fit. downgrade: a cheaper model. "
        "wait: until the window turns. refuse: an error.",
    )
    scopes: dict[ScopeName, Budget] = Field(default_factory=dict, examples=["tenant:acme"])
    rules: tuple[BudgetRule, ...] = ()
    downgrade: Downgrades = Downgrades()


class Rates(Rate):
    """What all tasks together may use in any 60 minutes, and how many there may be at once."""

    scopes: dict[ScopeName, Rate] = Field(default_factory=dict, examples=["tenant:*"])
