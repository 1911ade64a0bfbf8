"""The chart on a real API: Helm installs, upgrades and removes it, and Fleet scales it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from cluster_services import Services, make_account, until
from kubernetes import client, dynamic
from kubernetes.client.exceptions import ApiException

from fleet.errors import NotAllowed
from fleet.scaling.cluster import Cluster
from fleet.scaling.kubernetes import KedaActuator, KubernetesActuator
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import FleetConfig, parse_config

pytestmark = pytest.mark.cluster

CHART = Path(__file__).parents[2] / "charts" / "fleet"
VALUES = yaml.safe_load((CHART / "ci" / "trial-values.yaml").read_text())
RELEASE = "one"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
OF_EVERY_NAMESPACE = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
PASSING = {"Event", "Pod", "ReplicaSet", "EndpointSlice", "ControllerRevision", "Endpoints"}
"""What the controllers make and remove after Helm is done."""


@pytest.fixture
def helm(services: Services, namespace: str) -> Iterator[helm_python.Config]:
    """Helm in a namespace that admits only pods of the standard `restricted`."""
    core = client.CoreV1Api(services.api())
    core.patch_namespace(namespace, {"metadata": {"labels": RESTRICTED}})
    with helm_python.Config(kubeconfig_path=services.kubeconfig, namespace=namespace) as found:
        yield found


@pytest.fixture
def install(helm: helm_python.Config, namespace: str) -> Callable[..., None]:
    """Installs the chart, with these values over those of a trial."""

    def made(name: str = RELEASE, **values: Any) -> None:
        helm.install(CHART, name, {**VALUES, **values}, namespace=namespace)

    return made


def objects(services: Services, namespace: str) -> set[str]:
    """All objects of a namespace that somebody made on purpose, as `Kind/name`."""
    found: set[str] = set()
    api = dynamic.DynamicClient(services.api())
    for kind in api.resources.search(namespaced=True):
        if "/" in kind.name or "list" not in kind.verbs or kind.kind.endswith("List"):
            continue
        if kind.kind not in PASSING and "metrics" not in kind.group_version:
            listed = api.get(kind, namespace=namespace).items
            found |= {f"{kind.kind}/{each.metadata.name}" for each in listed}
    return found - OF_EVERY_NAMESPACE


def rollouts(services: Services, namespace: str) -> dict[str, tuple[int, int]]:
    """The pods that each Deployment should have, and those that were admitted."""
    listed = client.AppsV1Api(services.api()).list_namespaced_deployment(namespace).items
    return {each.metadata.name: (each.spec.replicas, each.status.replicas or 0) for each in listed}


def fleet_toml(services: Services, namespace: str) -> FleetConfig:
    """The configuration that the release gives its processes."""
    maps = client.CoreV1Api(services.api()).list_namespaced_config_map(namespace).items
    (text,) = [each.data["fleet.toml"] for each in maps if "fleet.toml" in (each.data or {})]
    return parse_config(text, "fleet.toml")


def as_beat(services: Services, namespace: str) -> client.ApiClient:
    """A client with beat's service account."""
    return services.api_as(token_of(services, namespace, f"{RELEASE}-beat"))


def test_every_pod_of_the_chart_is_admitted_under_restricted_pod_security(
    services: Services, namespace: str, install: Callable[..., None]
) -> None:
    install()
    until(
        lambda: all(now == wanted for wanted, now in rollouts(services, namespace).values()),
        what="pods",
    )
    assert {"one-beat", "one-ops", "one-flower", "one-pool-codegen"} <= set(
        rollouts(services, namespace)
    )
    pods = client.CoreV1Api(services.api()).list_namespaced_pod(namespace).items
    assert len(pods) >= 6


def test_a_second_release_an_upgrade_a_rollback_and_the_removal_leave_nothing_behind(
    services: Services, namespace: str, helm: helm_python.Config, install: Callable[..., None]
) -> None:
    before = objects(services, namespace)
    install()
    alone = objects(services, namespace)
    install("two")
    assert {each for each in objects(services, namespace) if "/two" in each}
    fewer = {"pools": {"perf": None}}
    helm.upgrade(CHART, RELEASE, {**VALUES, "config": fewer}, namespace=namespace)
    assert alone - objects(services, namespace) == {
        "Deployment/one-pool-perf",
        "PodDisruptionBudget/one-pool-perf",
    }
    helm.rollback(RELEASE)
    assert alone <= objects(services, namespace)
    helm.uninstall("two")
    assert not {each for each in objects(services, namespace) if "/two" in each}
    helm.uninstall(RELEASE)
    until(lambda: objects(services, namespace) == before, what="an empty namespace")


def test_a_second_installation_under_the_same_name_is_refused_and_changes_nothing(
    services: Services, namespace: str, install: Callable[..., None]
) -> None:
    install()
    before = objects(services, namespace)
    with pytest.raises(helm_python.HelmError):
        install()
    assert objects(services, namespace) == before


def test_fleet_sizes_the_pools_with_beats_account_and_an_upgrade_keeps_the_size(
    services: Services, namespace: str, helm: helm_python.Config, install: Callable[..., None]
) -> None:
    install()
    config = fleet_toml(services, namespace)
    assert config.scaling.actuator == "kubernetes"
    actuator = KubernetesActuator(config, Cluster(as_beat(services, namespace), namespace))
    actuator.check()
    actuator.apply("codegen", 4, [])
    until(lambda: rollouts(services, namespace)["one-pool-codegen"] == (4, 4), what="four pods")
    helm.upgrade(CHART, RELEASE, {**VALUES, "logLevel": "debug"}, namespace=namespace)
    assert rollouts(services, namespace)["one-pool-codegen"][0] == 4
    helm.rollback(RELEASE)
    assert rollouts(services, namespace)["one-pool-codegen"][0] == 4
    actuator.apply("perf", 0, [])
    pods = client.CoreV1Api(services.api()).list_namespaced_pod(namespace).items
    (busy, *_) = [each.metadata.name for each in pods if "pool-codegen" in each.metadata.name]
    seen = AgentReading(f"codegen-1@{busy}", "codegen", "busy", 1, 0.1, 1.8e9, None, "")
    actuator.note_agents([seen])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (
            "fleet",
            {
                "get deployments/scale one-pool-codegen,one-pool-perf,one-pool-scanner",
                "patch deployments/scale one-pool-codegen,one-pool-perf,one-pool-scanner",
                "patch pods ",
            },
        ),
        ("none", set()),
    ],
)
def test_beat_has_the_rights_that_it_needs_and_no_others(
    services: Services,
    namespace: str,
    install: Callable[..., None],
    by: str,
    expected: set[str],
) -> None:
    nobody = make_account(services, namespace, "nobody", [])
    everybody = rights(services.api_as(nobody), namespace)
    install(scaling={"by": by})
    assert rights(as_beat(services, namespace), namespace) - everybody == expected


def test_an_account_of_the_chart_that_is_not_beats_may_nothing(
    services: Services, namespace: str, install: Callable[..., None]
) -> None:
    nobody = make_account(services, namespace, "nobody", [])
    everybody = rights(services.api_as(nobody), namespace)
    install()
    for name in ("worker", "flower", "ops", "redis"):
        token = token_of(services, namespace, f"{RELEASE}-{name}")
        assert rights(services.api_as(token), namespace) == everybody


def token_of(services: Services, namespace: str, account: str) -> str:
    core = client.CoreV1Api(services.api())
    body: dict[str, Any] = {"spec": {}}
    found = core.create_namespaced_service_account_token(account, namespace, body)
    return str(found.status.token)


def rights(api: client.ApiClient, namespace: str) -> set[str]:
    """What an account may do in a namespace, as the API itself lists it."""
    body: dict[str, Any] = {"spec": {"namespace": namespace}}
    found = client.AuthorizationV1Api(api).create_self_subject_rules_review(body)
    return {
        f"{verb} {resource} {','.join(sorted(rule.resource_names or []))}"
        for rule in found.status.resource_rules
        for resource in rule.resources
        for verb in rule.verbs
    }


@pytest.mark.parametrize("verb", ["get", "list", "delete", "create", "deletecollection"])
def test_beat_may_not_do_to_pods(
    services: Services, namespace: str, install: Callable[..., None], verb: str
) -> None:
    install()
    core = client.CoreV1Api(as_beat(services, namespace))
    attempts: dict[str, Callable[[], Any]] = {
        "get": lambda: core.read_namespaced_pod("x", namespace),
        "list": lambda: core.list_namespaced_pod(namespace),
        "delete": lambda: core.delete_namespaced_pod("x", namespace),
        "create": lambda: core.create_namespaced_pod(namespace, {}),
        "deletecollection": lambda: core.delete_collection_namespaced_pod(namespace),
    }
    with pytest.raises(ApiException) as caught:
        attempts[verb]()
    assert caught.value.status == 403


def test_beat_may_not_scale_what_is_no_pool(
    services: Services, namespace: str, install: Callable[..., None]
) -> None:
    install()
    cluster = Cluster(as_beat(services, namespace), namespace)
    for name in ("one-ops", "one-beat", "other"):
        with pytest.raises(NotAllowed):
            cluster.scale(name, 0)
        with pytest.raises(NotAllowed):
            cluster.scale_of(name)


def test_where_keda_scales_beat_marks_pods_and_may_not_scale(
    keda: Services, namespace: str, helm: helm_python.Config
) -> None:
    values = {**VALUES, "scaling": {"by": "keda"}}
    helm.install(CHART, RELEASE, values, namespace=namespace)
    assert fleet_toml(keda, namespace).scaling.actuator == "keda"
    cluster = Cluster(as_beat(keda, namespace), namespace)
    with pytest.raises(NotAllowed):
        cluster.scale("one-pool-codegen", 0)
    KedaActuator(cluster).note_agents(
        [AgentReading("codegen-1@nowhere", "codegen", "idle", 0, 0.1, 1.8e9, None, "")]
    )
