"""A real Kubernetes API with its controllers, as local processes; nothing runs inside its pods.

Where the services are not there, the tests are skipped.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from cluster_services import RIGHTS, TOOL, Services, make_account, start
from kubernetes import client

from fleet.scaling.cluster import Cluster


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A cluster for this run alone."""
    data = tmp_path_factory.mktemp("services")
    try:
        start(data, "kubernetes")
        yield Services(data, data / "kubeconfig")
    finally:
        if TOOL.exists():
            subprocess.run([str(TOOL), "stop", "--data", str(data)], check=False)


@pytest.fixture(scope="session")
def keda(services: Services) -> Services:
    """The same cluster with KEDA's operator and metrics adapter."""
    start(services.data, "keda")
    return services


@pytest.fixture
def namespace(services: Services) -> Iterator[str]:
    """A namespace of one test."""
    core = client.CoreV1Api(services.api())
    name = f"fleet-{uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def token(services: Services, namespace: str) -> str:
    """The token of a service account with the rights of the actuators, and no others."""
    return make_account(services, namespace, "beat", RIGHTS)


@pytest.fixture
def cluster(services: Services, namespace: str, token: str) -> Cluster:
    """The namespace, as beat sees it."""
    return Cluster(services.api_as(token), namespace)


@pytest.fixture
def deploy(services: Services, namespace: str) -> Callable[[str, int], None]:
    """Makes a Deployment of pods that nothing runs in."""

    def make(name: str, replicas: int) -> None:
        labels = {"app": name}
        container = {"name": "worker", "image": "fleet:test"}
        body = {
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        client.AppsV1Api(services.api()).create_namespaced_deployment(namespace, body)

    return make
