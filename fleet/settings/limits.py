"""Limits of tasks, the signs of life, workers, replicas and agents: short tables of fleet.toml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.settings.names import LONGEST_SECONDS, Seconds, Section

Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Waiting = Annotated[int, Field(ge=1, le=10_000_000)]
TimeToLive = Annotated[int, Field(ge=60, le=LONGEST_SECONDS)]


class Limits(Section):
    """How large, how long and how many tasks may be."""

    payload_bytes: Bytes = Field(1024 * 1024, description="The payload of one task, as JSON.")
    checkpoint_bytes: Bytes = Field(
        1024 * 1024, description="All checkpoints that the runs of one task save together."
    )
    task_seconds: Seconds = Field(600, description="The time limit of a task.")
    model_call_seconds: Seconds = Field(300, description="The time limit of a model call.")
    result_ttl_seconds: TimeToLive = Field(
        86400, description="How long the record of an ended task is kept."
    )
    waiting_per_pool: Waiting = Field(
        100_000,
        description="Tasks that may wait for a slot in one queue. More are refused for now.",
    )
    waiting_per_tenant: Waiting = Field(
        100_000, description="Tasks of one tenant that may wait: queued, delayed or on hold."
    )
    dead_letters: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        10_000,
        description="Dead letters that are kept: tasks that failed for good and can be retried. "
        "The oldest are dropped first.",
    )
    dead_ttl_seconds: TimeToLive = Field(
        7 * 86400, description="How long a dead letter is kept at most."
    )


class Leases(Section):
    """Signs of life, and after which silence somebody counts as dead."""

    lease_seconds: Seconds = Field(
        15, description="How long a worker may be silent before its task goes to another worker."
    )
    renew_seconds: Seconds = Field(
        5,
        description="How often a worker renews its leases: at most half of lease_seconds.",
    )
    heartbeat_seconds: Seconds = Field(5, description="How often an agent gives a sign of life.")
    dead_after_seconds: Seconds = Field(
        30,
        description="An agent without a sign of life for so long is dead, and its messages go "
        "back: at least twice heartbeat_seconds.",
    )
    reap_seconds: Seconds = Field(
        10, description="How often beat looks for dead agents and lost tasks."
    )
    beat_seconds: Annotated[int, Field(ge=2, le=3600)] = Field(
        30, description="How long beat may be silent before another beat takes over."
    )

    @model_validator(mode="after")
    def _a_missed_beat_is_not_a_death(self) -> Self:
        for life, beat in (
            ("lease_seconds", "renew_seconds"),
            ("dead_after_seconds", "heartbeat_seconds"),
        ):
            if getattr(self, life) < 2 * getattr(self, beat):
                raise ValueError(
                    f"{life} ({getattr(self, life):g}) must be at least twice {beat} "
                    f"({getattr(self, beat):g}), or one late sign of life counts as a death"
                )
        return self


class Workers(Section):
    """How a worker shuts down."""

    grace_seconds: Annotated[float, Field(ge=2, le=86_400)] = Field(
        25,
        description="Within this time a worker that is told to stop has ended, or has only plain "
        "Celery tasks left, for which it waits. Kubernetes kills it after "
        "terminationGracePeriodSeconds, 30 by default.",
    )


class Replication(Section):
    """How many replicas of Redis must have a task before its submission returns."""

    min_replicas: Annotated[int, Field(ge=0, le=100)] = Field(
        0,
        description="So many replicas must have a task before its submission returns. Else it "
        "raises NotReplicated.",
    )
    wait_seconds: Annotated[float, Field(ge=0.01, le=60)] = Field(
        1.0,
        description="How long a submission waits for the replicas: less than FLEET_SOCKET_TIMEOUT.",
    )


class Access(Section):
    """Who may submit, read and operate: see docs/access.md."""

    mode: Literal["open", "tokens"] = Field(
        "open",
        description="open: each process that reaches Redis may do everything, for each tenant. "
        "tokens: `Fleet` and the command line need a token, FLEET_TOKEN, and do what its roles and "
        "its tenant allow.",
    )


class Agents(Section):
    """What agents may read, and where generated code runs."""

    read_roots: tuple[str, ...] = Field(
        (".",), description="Folders that agents may read. Everything else is refused."
    )
    sandbox: Literal["auto", "bubblewrap", "landlock", "rlimits"] = Field(
        "auto",
        description="Where generated code runs. auto: bubblewrap, else landlock, else code is "
        "refused. rlimits: limits only.",
    )
