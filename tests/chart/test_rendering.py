"""The chart renders with every values file of `ci/`, and what it renders holds together."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import manifests as m
import pytest
from helm_chart import Chart, Rendered, features, values_of

from fleet.settings import FleetConfig, parse_config
from fleet.settings.environment import Environment

OUTSIDE = {
    "redis-tls": ("fleet-redis-login", "fleet-redis-tls", "keda-redis-login"),
    "redis-sentinel": ("fleet-redis-login", "keda-redis-login"),
    "providers": ("provider-keys", "model-login"),
    "blue-green": ("fleet-archive",),
    "keda-metrics-api": ("fleet-ops-token",),
    "monitoring": ("fleet-ops-token", "operators-token"),
}
"""The objects that a values file expects in the cluster."""


@pytest.fixture(params=features())
def feature(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_of(rendered: Rendered) -> FleetConfig:
    return parse_config(toml_of(rendered), "fleet.toml")


def toml_of(rendered: Rendered) -> str:
    return str(rendered.one("ConfigMap")["data"]["fleet.toml"])


@pytest.mark.parametrize("check", m.CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong_that_a_schema_cannot_see(
    rendered: dict[str, Rendered], check: Any
) -> None:
    faults = {name: list(check(each.manifests)) for name, each in rendered.items()}
    assert {name: found for name, found in faults.items() if found} == {}


def test_whatever_is_named_is_there(rendered: dict[str, Rendered]) -> None:
    for name, each in rendered.items():
        assert list(m.references(each.manifests, OUTSIDE.get(name, ()))) == [], name


def test_fleet_reads_the_rendered_fleet_toml(rendered: dict[str, Rendered], feature: str) -> None:
    config = config_of(rendered[feature])
    workers = [
        each
        for each in rendered[feature].manifests
        if each["metadata"]["labels"].get("app.kubernetes.io/component") == "pool"
        and each["kind"] in ("Deployment", "ScaledJob")
    ]
    args = {each["metadata"]["name"]: each for each in workers}
    assert len(workers) == len(config.pools)
    assert set(args) == {config.kubernetes.deployment_of(pool) for pool in config.pools}


def test_a_worker_may_finish_its_tasks_before_it_is_killed(
    rendered: dict[str, Rendered], feature: str
) -> None:
    config = config_of(rendered[feature])
    for owner, template in m.templates(rendered[feature].manifests):
        if template["metadata"]["labels"]["app.kubernetes.io/component"] == "pool":
            grace = template["spec"]["terminationGracePeriodSeconds"]
            assert grace == config.limits.task_seconds + 60, owner
            assert config.limits.task_seconds < config.workers.grace_seconds < grace


def test_whole_numbers_of_any_size_stay_whole(rendered: dict[str, Rendered]) -> None:
    found = tomllib.loads(toml_of(rendered["numbers"]))
    pool = found["pools"]["codegen"]
    whole = (pool["min"], pool["slots"], pool["max"], found["limits"]["waiting_per_pool"])
    assert whole == (0, 1, 3, 1_000_000)
    large = (found["budgets"]["monthly_tokens"], found["health"]["failures_in_row"])
    assert large == (9_007_199_254_740_991, 12_345_678_901_234_567)
    assert all(type(each) is int for each in (*whole, *large))
    assert found["budgets"]["downgrade"]["nearly"] == 0.8
    assert found["routing"]["rules"][0]["tenant"] == "0123"
    config = config_of(rendered["numbers"])
    assert config.health.failures_in_row == 12_345_678_901_234_567


def test_null_removes_a_pool_of_the_defaults(rendered: dict[str, Rendered]) -> None:
    assert set(config_of(rendered["pools"]).pools) == {"codegen", "scanner", "code_gen_large"}


@pytest.mark.parametrize(
    ("feature", "actuator"),
    [
        ("default", "keda"),
        ("scaling-hpa", "keda"),
        ("scaling-fleet", "kubernetes"),
        ("scaling-none", "none"),
    ],
)
def test_fleet_knows_who_sizes_its_pools(
    rendered: dict[str, Rendered], feature: str, actuator: str
) -> None:
    found = rendered[feature]
    assert config_of(found).scaling.actuator == actuator
    pools = [each for each in found.of("Deployment") if "-pool-" in each["metadata"]["name"]]
    sized = [each["spec"].get("replicas") for each in pools]
    assert sized == ([2, 0, 1] if actuator == "none" else [None, None, None])


def token_users(rendered: Rendered) -> set[str]:
    """The components whose pods have the token of their service account."""
    return {
        template["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, template in m.templates(rendered.manifests)
        if template["spec"]["automountServiceAccountToken"]
    }


def rights_on_secrets(rendered: Rendered) -> dict[str, list[str]]:
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: rule["verbs"]
        for each in rendered.of("Role")
        for rule in each["rules"]
        if "secrets" in rule["resources"]
    }


def test_by_default_a_pod_reads_secrets_from_variables_and_has_no_right_on_others(
    rendered: dict[str, Rendered],
) -> None:
    found = rendered["default"]
    assert config_of(found).secrets.stores == ("environment",)
    assert rights_on_secrets(found) == {}
    assert token_users(found) == {"beat"}


def test_with_vault_each_process_logs_in_and_reaches_it(rendered: dict[str, Rendered]) -> None:
    found = rendered["secrets-vault"]
    assert {"pool", "beat", "ops", "flower"} <= token_users(found)
    assert rights_on_secrets(found) == {}
    (out,) = (p for p in found.of("NetworkPolicy") if p["metadata"]["name"].endswith("-out"))
    assert [{"protocol": "TCP", "port": 8200}] in [rule["ports"] for rule in out["spec"]["egress"]]


def test_with_secrets_of_kubernetes_beat_alone_may_write_them(
    rendered: dict[str, Rendered],
) -> None:
    found = rendered["secrets-kubernetes"]
    reads = ["get", "list"]
    assert rights_on_secrets(found) == {
        "beat": ["get", "list", "create", "update"],
        **dict.fromkeys(("worker", "flower", "ops"), reads),
    }
    (api,) = (p for p in found.of("NetworkPolicy") if p["metadata"]["name"].endswith("api-server"))
    assert "matchExpressions" in api["spec"]["podSelector"]


LOCAL_ONLY = {"FLEET_BROKER_PORT", "FLEET_MODEL_PORT"}
"""Read by `fleet up` alone, for what it starts on this machine."""
NOT_IN_A_CLUSTER = {"FLEET_VAULT_TOKEN", "FLEET_MASTER_KEY_FILE"}
"""For development, and for secrets in files: a pod keeps them in Vault or in Kubernetes."""
BY_COMMAND = {"FLEET_POOL", "FLEET_SUPERVISED"}
"""Set by `fleet service worker POOL`, and by `fleet up` for the workers that it supervises."""


def test_every_variable_that_is_read_is_set_and_no_other(rendered: dict[str, Rendered]) -> None:
    read = {f"FLEET_{name.upper()}" for name in Environment.model_fields}
    found = {
        variable["name"]
        for each in rendered.values()
        for _, container in m.containers(each.manifests)
        for variable in container.get("env", ())
    }
    fleets = {name for name in found if name.startswith("FLEET_")}
    assert fleets == read - LOCAL_ONLY - NOT_IN_A_CLUSTER - BY_COMMAND
    keys = {
        provider.key_variable
        for each in rendered.values()
        for provider in config_of(each).providers.values()
    }
    assert found - fleets <= keys | {"HTTPS_PROXY"}


def test_the_variables_of_each_process_can_be_read(
    rendered: dict[str, Rendered], feature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, container in m.containers(rendered[feature].manifests):
        with monkeypatch.context() as patch:
            for variable in container.get("env", ()):
                value = variable.get("value", "redis://h:1/0")
                if variable["name"] != "FLEET_CONFIG":
                    patch.setenv(variable["name"], value)
            assert Environment() is not None, owner


def test_a_changed_fleet_toml_replaces_the_pods(rendered: dict[str, Rendered]) -> None:
    sums = {
        template["metadata"]["annotations"]["checksum/config"]
        for each in (rendered["default"], rendered["numbers"])
        for _, template in m.templates(each.manifests)
        if "annotations" in template["metadata"]
    }
    assert len(sums) == 2


def test_rights_are_those_of_the_actuator(rendered: dict[str, Rendered]) -> None:
    patch_pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}
    assert rendered["default"].one("Role")["rules"] == [patch_pods]
    scale, pods = rendered["scaling-fleet"].one("Role")["rules"]
    assert (scale["resources"], scale["verbs"]) == (["deployments/scale"], ["get", "patch"])
    assert len(scale["resourceNames"]) == 3
    assert pods == patch_pods
    assert rendered["scaling-none"].of("Role") == []


def test_only_beat_gets_a_token(rendered: dict[str, Rendered]) -> None:
    with_token = {
        template["metadata"]["labels"]["app.kubernetes.io/component"]
        for _, template in m.templates(rendered["default"].manifests)
        if template["spec"]["automountServiceAccountToken"]
    }
    assert with_token == {"beat"}
    assert not any(
        template["spec"]["automountServiceAccountToken"]
        for _, template in m.templates(rendered["scaling-none"].manifests)
    )


def test_beat_is_never_replaced_before_it_has_ended(rendered: dict[str, Rendered]) -> None:
    beat = rendered["default"].named("Deployment", "fleet-beat")
    assert beat["spec"]["strategy"] == {"type": "Recreate"}


def test_the_ops_endpoint_has_its_figures(rendered: dict[str, Rendered]) -> None:
    found = rendered["default"]
    spec = found.named("HorizontalPodAutoscaler", "fleet-ops")["spec"]
    aims = {
        metric["resource"]["name"]: metric["resource"]["target"]["averageUtilization"]
        for metric in spec["metrics"]
    }
    assert (spec["minReplicas"], spec["maxReplicas"], aims) == (3, 10, {"cpu": 70, "memory": 80})
    container = found.named("Deployment", "fleet-ops")["spec"]["template"]["spec"]["containers"][0]
    live, ready = container["livenessProbe"], container["readinessProbe"]
    assert (live["httpGet"]["path"], live["initialDelaySeconds"], live["periodSeconds"]) == (
        "/health",
        30,
        10,
    )
    assert (ready["httpGet"]["path"], ready["initialDelaySeconds"], ready["periodSeconds"]) == (
        "/ready",
        5,
        5,
    )


def container_of(found: Rendered, name: str) -> Any:
    """The one container of a Deployment, and its variables by name."""
    (only,) = found.named("Deployment", name)["spec"]["template"]["spec"]["containers"]
    return only, {each["name"]: each for each in only["env"]}


def test_flower_is_probed_without_a_login(rendered: dict[str, Rendered]) -> None:
    container, _ = container_of(rendered["default"], "fleet-flower")
    for kind in ("livenessProbe", "readinessProbe"):
        assert container[kind]["exec"]["command"] == ["python", "-m", "fleet.web.probe"]
    assert find_spec("fleet.web.probe") is not None


def test_a_viewer_of_flower_has_a_password_of_its_own(rendered: dict[str, Rendered]) -> None:
    name = "FLEET_FLOWER_VIEWER_PASSWORD"
    assert name not in container_of(rendered["default"], "fleet-flower")[1]
    found = rendered["monitoring"]
    named = container_of(found, "fleet-flower")[1][name]["valueFrom"]["secretKeyRef"]
    assert named == {"name": "fleet-flower", "key": "viewer-password"}
    made = found.named("Secret", "fleet-flower")["stringData"]
    assert len(set(made.values())) == len(made) == 2


def test_the_command_line_in_beats_pod_has_a_token(rendered: dict[str, Rendered]) -> None:
    for name in ("fleet-beat", "fleet-flower"):
        named = container_of(rendered["monitoring"], name)[1]["FLEET_TOKEN"]
        token = {"name": "operators-token", "key": "fleet-token"}
        assert named["valueFrom"]["secretKeyRef"] == token
        assert "FLEET_TOKEN" not in container_of(rendered["default"], name)[1]
    assert 'mode = "tokens"' in rendered["monitoring"].toml


def test_who_asks_the_ops_endpoint_sends_its_token(rendered: dict[str, Rendered]) -> None:
    assert "FLEET_OPS_TOKEN" not in container_of(rendered["default"], "fleet-ops")[1]
    named = container_of(rendered["monitoring"], "fleet-ops")[1]["FLEET_OPS_TOKEN"]
    token = {"name": "fleet-ops-token", "key": "ops-token"}
    assert named["valueFrom"]["secretKeyRef"] == token
    (endpoint,) = rendered["monitoring"].one("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": token}


def test_no_pod_talks_to_anything_by_default_but_what_it_needs(
    rendered: dict[str, Rendered],
) -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in rendered["default"].of("NetworkPolicy")
    }
    deny = policies["fleet-deny"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    out = {
        port["port"]
        for name in ("fleet-out", "fleet-https")
        for rule in policies[name]["egress"]
        for port in rule["ports"]
    }
    assert out == {53, 6379, 443}
    (into,) = policies["fleet-ops"]["ingress"]
    assert [port["port"] for port in into["ports"]] == [8080, 9090]


def test_the_port_of_another_redis_is_let_through(rendered: dict[str, Rendered]) -> None:
    rules = rendered["redis-url"].named("NetworkPolicy", "fleet-out")["spec"]["egress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {53, 6380}
    rules = rendered["redis-sentinel"].named("NetworkPolicy", "fleet-out")["spec"]["egress"]
    ports = {port["port"] for rule in rules for port in rule["ports"]}
    assert ports == {53, 26379, 26380, 6379}


def test_what_stands_outside_of_the_mesh_is_let_in_where_it_has_to(
    rendered: dict[str, Rendered],
) -> None:
    redis = rendered["istio"].named("PeerAuthentication", "fleet-redis")["spec"]
    assert redis["mtls"] == {"mode": "STRICT"}
    assert redis["portLevelMtls"] == {"6379": {"mode": "PERMISSIVE"}}
    inside = rendered["istio-all-in-mesh"].of("PeerAuthentication")
    assert [each["spec"].get("portLevelMtls") for each in inside] == [None] * len(inside)
    assert "rules" not in rendered["istio"].named("AuthorizationPolicy", "fleet-pool")["spec"]


def test_the_notes_say_the_next_command(rendered: dict[str, Rendered], feature: str) -> None:
    notes = rendered[feature].notes
    name = "fleet-green" if feature == "blue-green" else "fleet"
    assert f"exec deploy/{name}-beat -- fleet deploy smoke" in notes
    assert "get pods" in notes


def test_helm_finds_nothing_to_say(chart: Chart, feature: str) -> None:
    assert chart.lint(values_of(feature)) == []


def test_charts_and_application_have_one_version() -> None:
    from configparser import ConfigParser

    from ruamel.yaml import YAML

    root = Path(__file__).parents[2]
    setup = ConfigParser()
    setup.read(root / "setup.cfg")
    chart = YAML(typ="safe").load((root / "charts/fleet/Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == setup["metadata"]["version"]
