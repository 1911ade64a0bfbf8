"""Where a fleet's workers are in a Kubernetes cluster."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet.settings.names import Section

LONGEST_NAME = 52
"""Kubernetes adds up to eleven characters to it and allows 63; the chart cuts at the same place."""

Namespace = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9\-]{0,62}$")]
Deployment = Annotated[str, Field(pattern=r"^[a-z0-9\-]*\{pool\}[a-z0-9\-]*$")]


class Kubernetes(Section):
    """Where the workers are, for the actuators `kubernetes` and `keda`. The chart sets it."""

    namespace: Namespace | None = Field(
        None,
        description="The namespace of the Deployments. Default: that of the service account, or of "
        "the kubeconfig's context.",
        examples=["fleet"],
    )
    deployment: Deployment = Field(
        "fleet-pool-{pool}",
        description="The name of a pool's Deployment, cut after 52 characters. `{pool}` stands for "
        "the pool's name, with - for _.",
    )

    def deployment_of(self, pool: str) -> str:
        """The name of a pool's Deployment, as the chart makes it."""
        whole = self.deployment.replace("{pool}", pool.replace("_", "-").removesuffix("-"))
        return whole[:LONGEST_NAME].removesuffix("-")
