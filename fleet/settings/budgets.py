"""What fleet.toml may say about how much is spent and used."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.settings.names import Fraction, Name, Over, TenantName
from fleet.settings.scopes import scope_form
from fleet.settings.section import Section

MOST_DOLLARS = 9_000_000
"""The scripts count nano-dollars exactly up to 2^53 of them."""

Dollars = Annotated[float, Field(gt=0, le=MOST_DOLLARS, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=2**53 - 1)]
ScopeName = Annotated[str, AfterValidator(scope_form)]


class Budget(Section):
    """What a scope may use in a UTC hour, day and month: US dollars, tokens, model calls."""

    hourly_usd: Dollars | None = None
    daily_usd: Dollars | None = None
    monthly_usd: Dollars | None = None
    hourly_tokens: Count | None = None
    daily_tokens: Count | None = None
    monthly_tokens: Count | None = None
    hourly_requests: Count | None = None
    daily_requests: Count | None = None
    monthly_requests: Count | None = None


class Rate(Section):
    """What a scope may use in any 60 minutes, and how many of its tasks there may be at once."""

    usd: Dollars | None = None
    tokens: Count | None = None
    requests: Count | None = None
    concurrent_tasks: Count | None = None


class BudgetRule(Section):
    """What becomes of a model call of some tasks that does not fit a budget."""

    request_type: Name | None = None
    tenant: TenantName | None = None
    over: Over

    @model_validator(mode="after")
    def _has_a_scope(self) -> Self:
        if self.request_type is None and self.tenant is None:
            raise ValueError("name a request_type, a tenant or both; for all there is budgets.over")
        return self


class Downgrades(Section):
    """When a task goes to a cheaper model, and to which. `nearly` is a share of a dollar budget."""

    over_usd: Dollars = 0.10
    nearly: Fraction = 0.9
    models: dict[str, str] = Field(default_factory=dict)

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
    """What everything may use, and single scopes; and what becomes of a call that does not fit.

    `task_usd` is what a task may cost whose submission says nothing of it, `task_tokens` and
    `task_requests` what each task may use. `redis_away` says
    whether a running task may call a model that Redis cannot admit.
    """

    daily_usd: Dollars = 500
    monthly_usd: Dollars = 15000
    task_usd: Dollars | None = None
    task_tokens: Count | None = None
    task_requests: Count | None = None
    redis_away: Literal["closed", "open"] = "closed"
    over: Over = "downgrade"
    scopes: dict[ScopeName, Budget] = Field(default_factory=dict)
    rules: tuple[BudgetRule, ...] = ()
    downgrade: Downgrades = Downgrades()


class Rates(Rate):
    """What everything may use in any 60 minutes and at once, and single scopes."""

    scopes: dict[ScopeName, Rate] = Field(default_factory=dict)
