"""Each check of `manifests.py` finds what it is for. Strict schemas pass all of these."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import kubernetes_validate
import manifests as m
import pytest
from helm_chart import Rendered


def pod(found: list[m.Manifest], name: str = "fleet-pool-codegen") -> dict[str, Any]:
    return dict(named(found, "Deployment", name)["spec"]["template"])


def named(found: list[m.Manifest], kind: str, name: str) -> m.Manifest:
    (one,) = (e for e in found if (e["kind"], e["metadata"]["name"]) == (kind, name))
    return one


def container(found: list[m.Manifest], name: str = "fleet-pool-codegen") -> dict[str, Any]:
    return dict(pod(found, name))["spec"]["containers"][0]  # type: ignore[no-any-return]


def restart(found: list[m.Manifest]) -> None:
    pod(found)["spec"]["restartPolicy"] = "Sometimes"


def quantity(found: list[m.Manifest]) -> None:
    container(found)["resources"]["requests"]["cpu"] = "1 core"


def port(found: list[m.Manifest]) -> None:
    container(found, "fleet-ops")["ports"][0]["containerPort"] = 99999


def unnamed_port(found: list[m.Manifest]) -> None:
    container(found, "fleet-ops")["ports"][0]["name"] = "web"


def no_pod(found: list[m.Manifest]) -> None:
    named(found, "Service", "fleet-ops")["spec"]["selector"]["app.kubernetes.io/name"] = "flotilla"


def version(found: list[m.Manifest]) -> None:
    spec = named(found, "Deployment", "fleet-ops")["spec"]
    spec["selector"]["matchLabels"]["app.kubernetes.io/version"] = "0.1.0"


def two_masters(found: list[m.Manifest]) -> None:
    named(found, "Deployment", "fleet-ops")["spec"]["replicas"] = 3


def empty_to(found: list[m.Manifest]) -> None:
    named(found, "NetworkPolicy", "fleet-out")["spec"]["egress"][0]["to"] = []


def no_tag(found: list[m.Manifest]) -> None:
    container(found)["image"] = "registry:5000/fleet"


def latest(found: list[m.Manifest]) -> None:
    container(found)["image"] = "fleet:latest"


def no_probe(found: list[m.Manifest]) -> None:
    del container(found)["livenessProbe"]


def root(found: list[m.Manifest]) -> None:
    container(found)["securityContext"]["readOnlyRootFilesystem"] = False


def policy(found: list[m.Manifest]) -> None:
    found.append(
        {"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy", "metadata": {"name": "p"}}
    )


def twice(found: list[m.Manifest]) -> None:
    found.append(named(found, "Service", "fleet-ops"))


BROKEN: tuple[tuple[Any, Any, str], ...] = (
    (restart, m.restart_policies, "restartPolicy Sometimes"),
    (quantity, m.quantities, "'1 core'"),
    (port, m.ports, "containerPort 99999"),
    (unnamed_port, m.ports, "no pod serves its port http"),
    (no_pod, m.selectors, "selects no pod"),
    (version, m.selectors, "which changes"),
    (two_masters, m.targets, "it sets replicas"),
    (empty_to, m.egress, "empty `to`"),
    (no_tag, m.images, "has no version"),
    (latest, m.images, "has no version"),
    (no_probe, m.probes, "no livenessProbe"),
    (root, m.pod_security, "securityContext"),
    (policy, m.dropped, "no longer served"),
    (twice, m.names, "2 times"),
)


@pytest.mark.parametrize(
    ("break_it", "check", "sentence"), BROKEN, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_check_finds_what_it_is_for(
    rendered: dict[str, Rendered], break_it: Any, check: Any, sentence: str
) -> None:
    found = deepcopy(list(rendered["default"].manifests))
    assert list(check(found)) == []
    break_it(found)
    assert sentence in "\n".join(check(found))


@pytest.mark.parametrize("break_it", [restart, quantity, port, no_pod])
def test_strict_schemas_pass_what_the_checks_find(
    rendered: dict[str, Rendered], break_it: Any
) -> None:
    found = deepcopy(list(rendered["default"].manifests))
    break_it(found)
    for name in ("Deployment", "Service"):
        for each in found:
            if each["kind"] == name:
                kubernetes_validate.validate(each, "1.37", strict=True)


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("source.principal", True),
        ("destination.port", True),
        ("request.headers[x-token]", True),
        ("redis.command", False),
        ("source.labels", False),
    ],
)
def test_istio_keys_are_those_of_its_reference(
    rendered: dict[str, Rendered], key: str, known: bool
) -> None:
    found = deepcopy(rendered["istio"].named("AuthorizationPolicy", "fleet-ops"))
    found["spec"]["rules"][0]["when"][0]["key"] = key
    assert (list(m.istio_rules([found])) == []) is known


def test_a_port_that_no_pod_has_is_found(rendered: dict[str, Rendered]) -> None:
    found = deepcopy(list(rendered["istio"].manifests))
    policy = named(found, "AuthorizationPolicy", "fleet-ops")
    policy["spec"]["rules"][0]["when"][1]["values"] = ["9090"]
    assert "no pod of it has the port 9090" in "\n".join(m.mesh_ports(found))


def test_redis_has_no_attributes_of_http(rendered: dict[str, Rendered]) -> None:
    found = deepcopy(rendered["istio"].named("AuthorizationPolicy", "fleet-redis"))
    found["spec"]["rules"][0]["to"] = [{"operation": {"methods": ["GET"]}}]
    assert "Redis is TCP" in "\n".join(m.istio_rules([found]))


def test_a_missing_secret_is_found(rendered: dict[str, Rendered]) -> None:
    faults = list(m.references(rendered["redis-tls"].manifests))
    assert any("there is no Secret fleet-redis-login" in each for each in faults)
