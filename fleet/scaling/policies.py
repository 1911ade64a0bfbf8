"""The installed scaling policies: Fleet's own, and those of other packages.

A package adds one with an entry point that names a `fleet.scaling.rules.values.ScalingPolicy`:

    [options.entry_points]
    fleet.scaling_policies =
        office_hours = acme.scaling:OFFICE_HOURS
"""

from __future__ import annotations

from collections.abc import Mapping

from fleet.errors import InvalidConfig
from fleet.extensions import installed
from fleet.scaling.rules.policies import POLICIES
from fleet.scaling.rules.values import ScalingPolicy
from fleet.settings import Settings
from fleet.text import unknown

ENTRY_POINT_GROUP = "fleet.scaling_policies"


def installed_policies() -> Mapping[str, ScalingPolicy]:
    """Every policy by its name.

    Raises `InvalidConfig` for an entry point that names no `ScalingPolicy`, or that uses a known
    name.
    """
    return installed(ENTRY_POINT_GROUP, "policy", POLICIES, ScalingPolicy)


def check_policies(settings: Settings, policies: Mapping[str, ScalingPolicy]) -> None:
    """Raise `InvalidConfig` if the configuration names a scaling policy that is not installed."""
    config = settings.config
    named = {"scaling.policy": config.scaling.policy}
    for name, pool in config.pools.items():
        if pool.scaling_policy is not None:
            named[f"pools.{name}.scaling_policy"] = pool.scaling_policy
    for key, policy in named.items():
        if policy not in policies:
            sentence = unknown("scaling policy", policy, policies)
            raise InvalidConfig(f"{settings.source}: {key}: {sentence}")
