"""What fleet.toml may say about routing and the health of pools."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from fleet.settings.names import Fraction, Name, Seconds, Strategy, TenantName
from fleet.settings.section import Section


class Weights(Section):
    """What each term of `ai_optimized` counts for."""

    success: Fraction = 0.30
    response: Fraction = 0.25
    load: Fraction = 0.20
    compatibility: Fraction = 0.15
    complexity_fit: Fraction = 0.10


class RouteRule(Section):
    """How the tasks of a request type, a tenant, or both are routed."""

    request_type: Name | None = None
    tenant: TenantName | None = None
    strategy: Strategy
    weights: Weights | None = None

    @model_validator(mode="after")
    def _has_a_scope(self) -> Self:
        if self.request_type is None and self.tenant is None:
            raise ValueError("name a request_type, a tenant or both; for all there is `strategy`")
        return self


class Routing(Section):
    """How pools are chosen, beside the strategy."""

    helper_floor: Fraction = 0.3
    half_life_seconds: Seconds = 600
    weights: Weights = Weights()
    rules: tuple[RouteRule, ...] = ()


class Health(Section):
    """When a pool is taken out of the rotation; see `fleet.routing.rules.health.HealthPolicy`."""

    failures_in_row: Annotated[int, Field(ge=1)] = 5
    least_success: Fraction = 0.6
    worse_by: Fraction = 0.2
    slow_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0
    least_outcomes: Annotated[int, Field(ge=1, le=100)] = 20
    most_ejected: Fraction = 0.5
    eject_seconds: Seconds = 30
    most_eject_seconds: Seconds = 300
    probes: Annotated[int, Field(ge=1)] = 1
    good_probes: Annotated[int, Field(ge=1, le=100)] = 3
    ramp_seconds: Seconds = 60
    look_seconds: Seconds = 10

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.most_eject_seconds < self.eject_seconds:
            raise ValueError(
                f"most_eject_seconds ({self.most_eject_seconds:g}) is under eject_seconds "
                f"({self.eject_seconds:g}); raise it"
            )
        return self
