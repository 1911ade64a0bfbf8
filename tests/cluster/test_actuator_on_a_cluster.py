"""The actuator `kubernetes` on a real API: it scales, chooses who ends, and may do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_services import Services, make_account, until
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from fleet.errors import InvalidConfig, NotAllowed
from fleet.scaling.cluster import FIELD_MANAGER, Cluster
from fleet.scaling.kubernetes import KubernetesActuator
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import parse_config

pytestmark = pytest.mark.cluster

NAME = "fleet-pool-codegen"
CONFIG = parse_config('[pools.codegen]\nagent_type = "code_generator"\n', "test")


def seen(pod: str, running: int = 0) -> AgentReading:
    """An agent as the scaler sees it."""
    return AgentReading(agent(pod), "codegen", "busy", running, 0.1, 1_796_040_000.0, None, "")


def agent(pod: str) -> str:
    return f"codegen-1@{pod}"


@pytest.fixture
def pods(services: Services, namespace: str) -> Callable[[], list[str]]:
    """Lists the pods that are not ending."""
    core = client.CoreV1Api(services.api())

    def listed() -> list[str]:
        found = core.list_namespaced_pod(namespace).items
        return [each.metadata.name for each in found if not each.metadata.deletion_timestamp]

    return listed


@pytest.fixture
def actuator(cluster: Cluster, deploy: Callable[[str, int], None]) -> KubernetesActuator:
    deploy(NAME, 0)
    return KubernetesActuator(CONFIG, cluster)


def test_a_pool_grows_from_zero_and_loses_the_pods_that_may_go(
    actuator: KubernetesActuator, pods: Callable[[], list[str]]
) -> None:
    actuator.check()
    actuator.apply("codegen", 4, [])
    until(lambda: len(pods()) == 4, what="four pods")
    first, second, third, fourth = pods()
    actuator.note_agents([seen(each, running=1) for each in pods()])
    actuator.apply("codegen", 2, [agent(third)])
    until(lambda: third not in pods(), what="the end of the pod that may go")
    assert sorted(pods()) == sorted([first, second, fourth])
    gone = [agent(each) for each in (first, second, third, fourth)]

    def is_empty() -> bool:
        actuator.apply("codegen", 0, gone)
        return not pods()

    until(is_empty, what="an empty pool")


def test_a_busy_pod_outlives_idle_ones_that_another_scaler_takes_away(
    actuator: KubernetesActuator, cluster: Cluster, pods: Callable[[], list[str]]
) -> None:
    actuator.apply("codegen", 3, [])
    until(lambda: len(pods()) == 3, what="three pods")
    busy, *idle = pods()
    actuator.note_agents([seen(busy, running=2), *map(seen, idle)])
    cluster.scale(NAME, 1)
    until(lambda: len(pods()) == 1, what="one pod")
    assert pods() == [busy]


def test_the_fleet_owns_the_replicas_and_nothing_else(
    actuator: KubernetesActuator, services: Services, namespace: str
) -> None:
    actuator.apply("codegen", 2, [])
    found = client.AppsV1Api(services.api()).read_namespaced_deployment(NAME, namespace)
    owned = [each for each in found.metadata.managed_fields if each.manager == FIELD_MANAGER]
    assert [(each.operation, each.subresource) for each in owned] == [("Apply", "scale")]
    assert owned[0].fields_v1 == {"f:spec": {"f:replicas": {}}}


def test_a_pool_without_a_deployment_is_found(cluster: Cluster) -> None:
    with pytest.raises(InvalidConfig, match=f"no Deployment {NAME}"):
        KubernetesActuator(CONFIG, cluster).check()


DENIED: tuple[tuple[str, Callable[[client.ApiClient, str], Any]], ...] = (
    ("list pods", lambda api, n: client.CoreV1Api(api).list_namespaced_pod(n)),
    ("get a pod", lambda api, n: client.CoreV1Api(api).read_namespaced_pod("x", n)),
    ("delete a pod", lambda api, n: client.CoreV1Api(api).delete_namespaced_pod("x", n)),
    ("create a pod", lambda api, n: client.CoreV1Api(api).create_namespaced_pod(n, {})),
    ("read secrets", lambda api, n: client.CoreV1Api(api).list_namespaced_secret(n)),
    ("list deployments", lambda api, n: client.AppsV1Api(api).list_namespaced_deployment(n)),
    ("get a deployment", lambda api, n: client.AppsV1Api(api).read_namespaced_deployment(NAME, n)),
    (
        "patch a deployment",
        lambda api, n: client.AppsV1Api(api).patch_namespaced_deployment(NAME, n, {}),
    ),
    (
        "delete a deployment",
        lambda api, n: client.AppsV1Api(api).delete_namespaced_deployment(NAME, n),
    ),
    (
        "replace a scale",
        lambda api, n: client.AppsV1Api(api).replace_namespaced_deployment_scale(NAME, n, {}),
    ),
    (
        "scale a stateful set",
        lambda api, n: client.AppsV1Api(api).patch_namespaced_stateful_set_scale(NAME, n, {}),
    ),
    (
        "scale in another namespace",
        lambda api, n: client.AppsV1Api(api).patch_namespaced_deployment_scale(
            NAME, "default", {}
        ),
    ),
    ("list nodes", lambda api, n: client.CoreV1Api(api).list_node()),
)


@pytest.mark.parametrize(("what", "attempt"), DENIED, ids=[what for what, _ in DENIED])
def test_an_account_with_the_actuators_rights_may_not(
    services: Services, namespace: str, token: str, what: str, attempt: Callable[..., Any]
) -> None:
    with pytest.raises(ApiException) as caught:
        attempt(services.api_as(token), namespace)
    assert caught.value.status == 403, what


@pytest.mark.parametrize("lacking", ["get", "patch"])
def test_without_a_right_nothing_is_scaled_and_the_error_names_the_role(
    services: Services, namespace: str, deploy: Callable[[str, int], None], lacking: str
) -> None:
    deploy(NAME, 1)
    kept = tuple(verb for verb in ("get", "patch") if verb != lacking)
    token = make_account(services, namespace, "lesser", [("apps", "deployments/scale", kept)])
    actuator = KubernetesActuator(CONFIG, Cluster(services.api_as(token), namespace))
    with pytest.raises(NotAllowed, match="give its service account the Role of the chart"):
        actuator.apply("codegen", 3, [])


def test_a_token_that_is_not_valid_is_refused_and_not_shown(
    services: Services, namespace: str
) -> None:
    cluster = Cluster(services.api_as("s3cret"), namespace)
    with pytest.raises(NotAllowed) as caught:
        KubernetesActuator(CONFIG, cluster).check()
    assert "s3cret" not in repr(caught.value) + str(caught.value.__context__)
