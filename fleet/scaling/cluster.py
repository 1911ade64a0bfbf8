"""The Deployments and pods of a fleet in one namespace of a Kubernetes cluster.

The rights that it needs there: `get` and `patch` of `deployments/scale`, and `patch` of `pods`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pydantic
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from fleet.errors import InvalidConfig, NotAllowed, Unavailable

FIELD_MANAGER = "fleet"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
METADATA_ALONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Has the API leave out the specification and the status of a pod."""
TIMEOUT = (2.0, 5.0)
"""Seconds to connect, and to wait for an answer."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


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
            found = _or_none(
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
            found = _or_none(
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
    """The cluster of this pod's service account, else that of the kubeconfig (KUBECONFIG).

    Raises `InvalidConfig` if there is neither.
    """
    settings = client.Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(settings)
            own = (SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        else:
            # The client itself reads the variable when it is imported.
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(file, client_configuration=settings, persist_config=False)
            _, context = config.list_kube_config_contexts(file)
            own = context["context"].get("namespace", "default")
    except (ConfigException, OSError) as error:
        raise InvalidConfig(
            f"scaling.actuator: the cluster is not known ({error}); run beat in a pod with a "
            "service account, or name a kubeconfig in KUBECONFIG"
        ) from error
    # The next decision tries again.
    settings.retries = 0
    return Cluster(client.ApiClient(settings), namespace or own)


def _or_none(ask: Callable[[], Any]) -> Any:
    """The answer. None if there is no such object."""
    try:
        return ask()
    except ApiException as error:
        if error.status == 404:
            return None
        raise


@contextmanager
def _cluster_errors(what: str, namespace: str) -> Iterator[None]:
    """Translate the client's errors. None of its texts is passed on: headers may hold a token."""
    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise NotAllowed(
                f"Kubernetes does not allow the fleet to {what} in namespace {namespace}; give its "
                "service account the Role of the chart: get and patch of deployments/scale, patch "
                "of pods"
            ) from None
        raise Unavailable(
            f"Kubernetes could not {what} in namespace {namespace} (status {error.status}); the "
            "next decision tries again"
        ) from None
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(
            f"Kubernetes does not answer ({type(error).__name__}), so the fleet could not {what}; "
            "the next decision tries again"
        ) from None
    except pydantic.ValidationError as error:
        raise Unavailable(
            f"the Kubernetes client cannot read the answer to: {what} ({error.error_count()} "
            "fields differ from its schema); use a cluster of a version that it supports"
        ) from None
