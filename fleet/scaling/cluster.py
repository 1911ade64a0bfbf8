"""The Deployments and pods of a fleet in one namespace of a Kubernetes cluster.

The rights that it needs there: `get` and `patch` of `deployments/scale`, and `patch` of `pods`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NamedTuple

from kubernetes import client

from fleet.kubernetes_api import TIMEOUT, connect_api, kubernetes_errors, or_none

FIELD_MANAGER = "fleet"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ALONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Has the API leave out the specification and the status of a pod."""
RIGHTS = "get and patch of deployments/scale, patch of pods"


class Scale(NamedTuple):
    """How many pods a Deployment should have, and has without those that are ending."""

    replicas: int
    pods: int


class Cluster:
    """Every method is one request. Each raises `Unavailable` if the cluster does not answer, and
    `NotAllowed` if it refuses the fleet's rights."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._apps = client.AppsV1Api(api)
        self._core = client.CoreV1Api(api)

    def scale_of(self, deployment: str) -> Scale | None:
        """The scale of a Deployment. None without such a Deployment."""
        with _cluster_errors(f"read the scale of Deployment {deployment}", self.namespace):
            found = or_none(
                lambda: self._apps.read_namespaced_deployment_scale(
                    deployment, self.namespace, _request_timeout=TIMEOUT
                )
            )
        # The API leaves zeros out, and the client makes them None.
        return found and Scale(found.spec.replicas or 0, found.status.replicas or 0)

    def scale(self, deployment: str, replicas: int) -> None:
        """Set how many pods a Deployment should have, by server-side apply.

        Other field managers lose the field: the fleet alone decides on it.
        """
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": deployment, "namespace": self.namespace},
            "spec": {"replicas": replicas},
        }
        with _cluster_errors(f"scale Deployment {deployment}", self.namespace):
            self._apps.patch_namespaced_deployment_scale(
                deployment,
                self.namespace,
                body,
                field_manager=FIELD_MANAGER,
                force=True,
                _content_type=APPLY,
                _request_timeout=TIMEOUT,
            )

    def set_deletion_cost(self, pod: str, cost: int) -> bool:
        """Set the deletion cost of a pod. False if there is none, or if it is ending already."""
        body = {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
        with _cluster_errors(f"annotate pod {pod}", self.namespace):
            found = or_none(
                lambda: self._core.patch_namespaced_pod(
                    pod,
                    self.namespace,
                    body,
                    field_manager=FIELD_MANAGER,
                    _content_type=MERGE,
                    _headers={"Accept": METADATA_ALONE},
                    _request_timeout=TIMEOUT,
                )
            )
        return found is not None and found.metadata.deletion_timestamp is None


def connect_cluster(namespace: str | None) -> Cluster:
    """The cluster of this process, see `connect_api`. Raises `InvalidConfig` if there is none."""
    api, own = connect_api("scaling.actuator")
    return Cluster(api, namespace or own)


def _cluster_errors(what: str, namespace: str) -> AbstractContextManager[None]:
    return kubernetes_errors(what, namespace, RIGHTS)
