"""The priorities of a task: from its submission, or else from the configuration."""

from __future__ import annotations

from fleet.models.rules.priorities import SUBMISSION, Level, Priorities, in_force
from fleet.settings import FleetConfig


def task_priorities(
    config: FleetConfig,
    request_type: str,
    tenant: str,
    quality: float | None = None,
    speed: float | None = None,
) -> Priorities:
    """The first of submission, request type, tenant and `[models]` that sets a priority decides it.

    Raises `InvalidRequest` for priorities that `fleet.models.rules.priorities.in_force` refuses.
    """
    models = config.models
    request, own = config.request_types.get(request_type), models.tenants.get(tenant)
    levels = [Level(SUBMISSION, quality, speed)]
    if request is not None:
        priorities = request.quality_priority, request.speed_priority
        levels.append(Level(f"request type {request_type}", *priorities))
    if own is not None:
        levels.append(Level(f"tenant {tenant}", own.quality_priority, own.speed_priority))
    levels.append(Level("configuration", models.quality_priority, models.speed_priority))
    return in_force(levels)
