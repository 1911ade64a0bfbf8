"""What fleet.toml may say about the size of pools."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from fleet.settings.names import Section

PolicyName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name; whether it is installed is checked where the installed ones are known."""
UsdPerHour = Annotated[float, Field(ge=0, le=1_000_000)]


class Scaling(Section):
    """How many workers each pool has between its `min` and its `max`, and who starts and ends them.
    """

    policy: PolicyName = Field(
        "square_root",
        description="What decides how many workers a pool has: threshold, square_root, forecast, "
        "or one that a package brings. `fleet scale policy` lists them, and changes it while the "
        "fleet runs.",
    )
    actuator: PolicyName = Field(
        "processes",
        description="What starts and ends workers: processes (`fleet up` on its machine), pool "
        "(each worker grows and shrinks while it runs; its execution has to be prefork), "
        "kubernetes, keda, none, or one that a package brings.",
    )
    seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        5, description="How often beat decides."
    )
    idle_usd_per_hour: UsdPerHour | None = Field(
        None,
        description="What the idle workers of a pool may cost in an hour, at its "
        "worker_usd_per_hour. Left out: no limit.",
        examples=[2.0],
    )
    history: Annotated[int, Field(ge=10, le=100_000)] = Field(
        1000, description="Decisions that `fleet scale history` keeps, about."
    )
