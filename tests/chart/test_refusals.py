"""Wrong values are refused with a sentence that names the value. `helm lint` accepts many."""

from __future__ import annotations

from typing import Any

import pytest
from helm_chart import Chart

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown value": ({"pool": {}}, "pool"),
    "an unknown key of fleet.toml": ({"config": {"pools": {"codegen": {"slot": 3}}}}, "slot"),
    "more slots than there may be": (
        {"config": {"pools": {"codegen": {"slots": 5000}}}},
        "config/pools/codegen/slots",
    ),
    "a slot that is no whole number": (
        {"config": {"pools": {"codegen": {"slots": 2.5}}}},
        "config/pools/codegen/slots",
    ),
    "a pool without an agent type that is known": (
        {"config": {"pools": {"Codegen": {"agent_type": "code_generator"}}}},
        "Codegen",
    ),
    "a pool without an agent type": (
        {"config": {"pools": {"new": {"slots": 3}}}},
        "at '/config/pools/new': missing property 'agent_type'",
    ),
    "a variable without a name": ({"extraEnv": [{"value": "1"}]}, "extraEnv/0"),
    "more workers at least than at most": (
        {"config": {"pools": {"codegen": {"min": 11}}}},
        "config.pools.codegen.min: 11 is over its max, 10",
    ),
    "no pool": (
        {"config": {"pools": {"codegen": None, "scanner": None, "perf": None}}},
        "config.pools: no pool is left",
    ),
    "settings of a pool that is not there": ({"pools": {"gone": {}}}, "pools.gone"),
    "two pools with one Deployment": (
        {
            "config": {
                "pools": {
                    "a-b": {"agent_type": "code_generator"},
                    "a_b": {"agent_type": "code_generator"},
                }
            }
        },
        "config.pools: a-b and a_b would share the Deployment",
    ),
    "a number that has lost digits": (
        {"config": {"health": {"failures_in_row": 12345678901234567}}},
        "config.health.failures_in_row: 12345678901234568 has lost digits",
    ),
    "a quantity with a word": (
        {"poolDefaults": {"resources": {"requests": {"cpu": "1 core"}}}},
        "poolDefaults/resources/requests/cpu",
    ),
    "a port that is none": (
        {"networkPolicies": {"apiServer": {"ports": [99999]}}},
        "networkPolicies/apiServer/ports",
    ),
    "a rule of egress without an address": (
        {"networkPolicies": {"extraEgress": [{"to": []}]}},
        "networkPolicies/extraEgress/0/to",
    ),
    "the tag latest": ({"image": {"tag": "latest"}}, "image.tag"),
    "a login in the address": (
        {"redis": {"url": "redis://:secret@host:6379/0"}},
        "redis.url: it holds a login",
    ),
    "an address of another broker": ({"redis": {"url": "amqp://host"}}, "redis/url"),
    "Sentinels without a master": ({"redis": {"url": "sentinel://host/0"}}, "redis.url"),
    "no Redis": ({"redis": {"internal": {"enabled": False}}}, "redis: nothing says where Redis is"),
    "KEDA without the place of Redis": ({"redis": {"secretName": "login"}}, "redis.url"),
    "KEDA without a login": (
        {"redis": {"secretName": "login", "url": "redis://host:6379/0"}},
        "scaling.keda.redis.secretName",
    ),
    "an unknown scaler": ({"scaling": {"by": "cron"}}, "scaling/by"),
    "KEDA on Prometheus without its address": (
        {"scaling": {"keda": {"trigger": "prometheus"}}},
        "scaling.keda.prometheus.serverAddress",
    ),
    "KEDA on an endpoint that is off": (
        {"scaling": {"keda": {"trigger": "metrics-api"}}, "ops": {"enabled": False}},
        "ops.enabled",
    ),
    "zero workers by a HorizontalPodAutoscaler": (
        {"scaling": {"by": "hpa"}},
        "config.pools.perf.min: a HorizontalPodAutoscaler scales to 0 from Kubernetes 1.37 on",
    ),
    "Jobs without KEDA": (
        {"scaling": {"by": "fleet"}, "pools": {"perf": {"oneShot": True}}},
        "pools.perf.oneShot",
    ),
    "a grace that Kubernetes cuts": (
        {"config": {"workers": {"grace_seconds": 660}}},
        "config.workers.grace_seconds: 660 is not under 660",
    ),
    "an actuator of one's own": (
        {"config": {"scaling": {"actuator": "none"}}},
        "config.scaling.actuator",
    ),
    "two beats on one volume": ({"beat": {"replicas": 2}}, "beat.replicas"),
    "more at least than at most": (
        {"ops": {"autoscaling": {"min": 11}}},
        "ops.autoscaling.min: 11 is over ops.autoscaling.max, 10",
    ),
    "an external secret without a store": (
        {"providerKeys": {"externalSecret": {"enabled": True}}},
        "providerKeys.externalSecret",
    ),
    "Vault without a role": (
        {"providerKeys": {"vault": {"enabled": True, "path": "secret/data/fleet"}}},
        "providerKeys.vault",
    ),
    "secrets in the files of a pod": (
        {"config": {"secrets": {"stores": ["file"]}}},
        "config.secrets.stores: each pod would have files of its own",
    ),
    "a variable of the chart's": (
        {"extraEnv": [{"name": "FLEET_NAMESPACE", "value": "other"}]},
        "extraEnv: FLEET_NAMESPACE",
    ),
    "a long name": ({"fullnameOverride": "a" * 31}, "fullnameOverride"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_with_the_name_of_the_value(chart: Chart, what: str) -> None:
    values, sentence = REFUSED[what]
    assert sentence in chart.refusal(values)


def test_an_old_kubernetes_is_refused_although_helm_does_not_look(chart: Chart) -> None:
    assert "Kubernetes v1.28.0 is too old" in chart.refusal({"kubeVersion": "v1.28.0"})


def test_a_horizontal_pod_autoscaler_may_scale_to_zero_on_a_new_kubernetes(chart: Chart) -> None:
    found = chart.render({"scaling": {"by": "hpa"}, "kubeVersion": "1.37.0"})
    perf = found.named("HorizontalPodAutoscaler", "fleet-pool-perf")
    assert perf["spec"]["minReplicas"] == 0


def test_lint_accepts_what_rendering_refuses(chart: Chart) -> None:
    # The reason why these tests render.
    assert chart.lint({"image": {"tag": "latest"}}) == []


def test_the_chart_can_be_part_of_another_one(chart: Chart) -> None:
    assert chart.render({"global": {"region": "eu"}}).of("Deployment")


def test_an_empty_map_of_pools_keeps_the_defaults(chart: Chart) -> None:
    found = chart.render({"config": {"pools": {}}})
    assert len(found.of("ScaledObject")) == 3
