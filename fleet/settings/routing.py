"""What fleet.toml may say about pools, request types, routing and the health of pools."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.settings.names import (
    Capability,
    Fraction,
    Name,
    QueueName,
    Seconds,
    Section,
    StrategyName,
    TenantName,
)
from fleet.settings.scaling import PolicyName, UsdPerHour


class AgentType(Section):
    """What a worker can do. Its code is the entry point of this name in `fleet.agents`."""


class Pool(Section):
    """The workers of one agent type that share one queue."""

    agent_type: Name = Field(description="The agent type of its workers.")
    queue: QueueName | None = Field(
        None,
        description="Its Celery queue. Default: {NAMESPACE}.POOL",
        examples=["{fleet}.codegen"],
    )
    weight: Annotated[int, Field(ge=1, le=10)] = Field(
        5, description="Its share in weighted strategies."
    )
    slots: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="Tasks that each worker runs at once."
    )
    execution: Literal["threads", "prefork"] = Field(
        "threads",
        description="threads: for work that waits for a model. prefork: for tools that burn CPU.",
    )
    min: Annotated[int, Field(ge=0, le=1000)] = Field(
        1,
        description="Workers at least; `fleet up` starts with them. 0: the first task starts a "
        "worker and waits for it.",
    )
    max: Annotated[int, Field(ge=1, le=1000)] = Field(4, description="Workers at most.")
    scaling_policy: PolicyName | None = Field(
        None,
        description="What decides how many workers it has; else scaling.policy.",
        examples=["threshold"],
    )
    worker_usd_per_hour: UsdPerHour = Field(
        0, description="What one of its workers costs in an hour; see scaling.idle_usd_per_hour."
    )
    helps: tuple[Name | Literal["*"], ...] = Field(
        (),
        description="Other agent types whose tasks the pool may take while it has none of its own. "
        "`*`: all that it suits at least as well as routing.helper_floor.",
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is over max ({self.max}); lower min or raise max")
        if self.agent_type in self.helps:
            raise ValueError(f"helps names the pool's own agent type {self.agent_type}; remove it")
        return self


class RequestType(Section):
    """What an application asks for, and the agent type that answers it."""

    agent_type: Name = Field(description="The agent type that answers it.")
    model_task: Name | None = Field(
        None,
        description="The model task whose token estimate holds, as an installed agent announces "
        "it, or general; else that of its agent.",
        examples=["general"],
    )
    needs: tuple[Capability, ...] = Field((), description="What a model must be capable of.")
    quality_priority: Fraction | None = Field(
        None,
        description="The weight of quality when a model is chosen; else that of [models].",
        examples=[0.8],
    )
    speed_priority: Fraction | None = Field(
        None,
        description="The weight of speed when a model is chosen; else that of [models].",
        examples=[0.1],
    )


class Weights(Section):
    """What each term of the strategy `ai_optimized` counts for."""

    success: Fraction = Field(0.30, description="The success rate of a pool.")
    response: Fraction = Field(0.25, description="Its response time.")
    load: Fraction = Field(0.20, description="Its free slots.")
    compatibility: Fraction = Field(
        0.15, description="How well its agent type suits the request type."
    )
    complexity_fit: Fraction = Field(
        0.10, description="How well its weight fits the complexity of the task."
    )


class RouteRule(Section):
    """How the tasks of a request type, a tenant, or both are routed. The narrowest rule that fits
    a task holds."""

    request_type: Name | None = Field(
        None, description="The request type of the tasks.", examples=["code_generation"]
    )
    tenant: TenantName | None = Field(
        None, description="The tenant of the tasks.", examples=["acme"]
    )
    strategy: StrategyName = Field(description="The strategy for them.", examples=["least_loaded"])
    weights: Weights | None = Field(
        None, description="Weights of `ai_optimized` for them; else those of [routing.weights]."
    )

    @model_validator(mode="after")
    def _has_a_scope(self) -> Self:
        if self.request_type is None and self.tenant is None:
            raise ValueError("name a request_type, a tenant or both; for all there is `strategy`")
        return self


class Routing(Section):
    """How pools are chosen, beside the strategy."""

    helper_floor: Fraction = Field(
        0.3,
        description="A pool with `helps` takes tasks of another agent type only where it suits "
        "their requests at least so well.",
    )
    half_life_seconds: Seconds = Field(
        600, description="In this time what is known of an idle pool loses half its weight."
    )
    weights: Weights = Weights()
    rules: tuple[RouteRule, ...] = ()


class Health(Section):
    """When a pool is taken out of the rotation, and how it comes back."""

    failures_in_row: Annotated[int, Field(ge=1)] = Field(
        5, description="A pool is out at once after so many failures in a row."
    )
    least_success: Fraction = Field(
        0.6,
        description="A pool is out below this success rate, if it is also worse than its peers.",
    )
    worse_by: Fraction = Field(
        0.2, description="How much lower than that of its peers its success rate must be."
    )
    slow_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = Field(
        5.0, description="A pool is out when it is so many times as slow as its peers."
    )
    least_outcomes: Annotated[int, Field(ge=1, le=100)] = Field(
        20, description="Success rate and slowness are judged from so many outcomes on."
    )
    most_ejected: Fraction = Field(
        0.5,
        description="The share of the live pools of an agent type that may be out at a time, never "
        "the last one. 0: none.",
    )
    eject_seconds: Seconds = Field(
        30,
        description="How long a pool is out the first time. Each failed probe doubles the time.",
    )
    most_eject_seconds: Seconds = Field(
        300, description="The longest time that a pool is out before its next probe."
    )
    probes: Annotated[int, Field(ge=1)] = Field(
        1, description="Tasks at a time that a pool gets while it is probed."
    )
    good_probes: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="So many probes must succeed before the pool is back."
    )
    ramp_seconds: Seconds = Field(
        60, description="In this time the slots of a pool that is back are opened step by step."
    )
    look_seconds: Seconds = Field(10, description="How often beat looks at the pools.")

    @model_validator(mode="after")
    def _times(self) -> Self:
        if self.most_eject_seconds < self.eject_seconds:
            raise ValueError(
                f"most_eject_seconds ({self.most_eject_seconds:g}) is under eject_seconds "
                f"({self.eject_seconds:g}); raise it"
            )
        return self
