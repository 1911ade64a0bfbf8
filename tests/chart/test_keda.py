"""What KEDA is told to count, and the user of Redis with which it counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
from helm_chart import Chart, Rendered

from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys, lists
from fleet.redis.permissions import Permissions
from fleet.redis.roles import ROLES
from fleet.redis.scripts import Scripts
from fleet.settings import parse_config

COUNT = """
local listName = KEYS[1]
local listType = redis.call('type', listName).ok
local cmd = {
    zset = 'zcard',
    set = 'scard',
    list = 'llen',
    hash = 'hlen',
    none = 'llen'
}
return redis.call(cmd[listType], listName)
"""
"""What KEDA 2.21 sends with EVAL for each of its triggers."""


def formula_names(text: str) -> set[str]:
    return set(re.findall(r"[a-z][a-z0-9]*", text))


def test_a_pool_is_sized_by_its_queues_and_by_what_its_workers_hold(
    rendered: dict[str, Rendered],
) -> None:
    tag, keys = "{fleet}", Keys("{fleet}")
    for each in rendered["default"].of("ScaledObject"):
        pool = each["metadata"]["labels"]["fleet/pool"]
        config = parse_config(rendered["default"].toml, "fleet.toml").pools[pool]
        counted = {t["name"]: t["metadata"]["listName"] for t in each["spec"]["triggers"]}
        running = counted.pop("running")
        assert running == keys.pool(pool).unacked
        own, overflow = f"{tag}.{pool}", f"{tag}.overflow.{config.agent_type}"
        assert set(counted.values()) == {*lists(own), *lists(overflow)}
        assert formula_names(each["spec"]["advanced"]["scalingModifiers"]["formula"]) == {
            *counted,
            "running",
        }


def test_pools_of_one_agent_type_share_its_overflow_queue(rendered: dict[str, Rendered]) -> None:
    large = rendered["pools"].named("ScaledObject", "fleet-pool-code-gen-large")
    # 5 workers of 20 slots beside 10 workers of 10.
    assert large["spec"]["advanced"]["scalingModifiers"]["formula"].endswith("* 0.5 + running")
    names = {trigger["metadata"]["listName"] for trigger in large["spec"]["triggers"]}
    assert {"{fleet}.large", "{fleet}:pool:code_gen_large:unacked"} <= names


def test_an_outage_is_no_empty_queue(rendered: dict[str, Rendered]) -> None:
    objects = [
        each
        for name in ("default", "keda-metrics-api", "keda-prometheus", "pools")
        for each in rendered[name].of("ScaledObject")
    ]
    assert len(objects) == 12
    for each in objects:
        spec = each["spec"]
        modifiers = spec["advanced"]["scalingModifiers"]
        # KEDA ignores the fallback where the target is no whole number.
        assert re.fullmatch(r"[1-9][0-9]*", modifiers["target"])
        assert modifiers["activationTarget"] == "0"
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
        for trigger in spec["triggers"]:
            assert trigger["metadata"].get("ignoreNullValues", "false") == "false"


def test_keda_asks_the_ops_endpoint_for_what_it_answers(rendered: dict[str, Rendered]) -> None:
    triggers = rendered["keda-metrics-api"].named("ScaledObject", "fleet-pool-perf")["spec"][
        "triggers"
    ]
    assert [t["metadata"]["valueLocation"] for t in triggers] == ["desired"]
    assert {t["metadata"]["url"] for t in triggers} == {
        "http://fleet-ops.agents.svc:8080/scale/perf"
    }


def test_keda_sends_the_token_of_the_ops_endpoint(rendered: dict[str, Rendered]) -> None:
    found = rendered["keda-metrics-api"]
    (trigger,) = found.named("ScaledObject", "fleet-pool-perf")["spec"]["triggers"]
    assert trigger["metadata"]["authMode"] == "bearer"
    given = found.named("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert given["spec"]["secretTargetRef"] == [
        {"parameter": "token", "name": "fleet-ops-token", "key": "token"}
    ]


def test_keda_needs_no_token_by_default(chart: Chart) -> None:
    found = chart.render({"scaling": {"keda": {"trigger": "metrics-api"}}})
    (trigger,) = found.named("ScaledObject", "fleet-pool-perf")["spec"]["triggers"]
    assert "authMode" not in trigger["metadata"]
    assert "authenticationRef" not in trigger


def test_keda_finds_the_master_through_the_sentinels(rendered: dict[str, Rendered]) -> None:
    trigger = rendered["redis-sentinel"].of("ScaledObject")[0]["spec"]["triggers"][0]
    assert trigger["type"] == "redis-sentinel"
    assert trigger["metadata"] | {"listName": ""} == {
        "addresses": "s1.data.svc:26379,s2.data.svc:26379,s3.data.svc:26380",
        "sentinelMaster": "fleet",
        "databaseIndex": "1",
        "enableTLS": "true",
        "listName": "",
        "listLength": "1",
        "activationListLength": "0",
    }
    assert trigger["authenticationRef"] == {"name": "fleet-keda-redis"}


def test_keda_trusts_an_authority_of_ones_own(rendered: dict[str, Rendered]) -> None:
    found = rendered["redis-tls"]
    spec = found.one("TriggerAuthentication")["spec"]
    assert {"parameter": "ca", "name": "keda-redis-login", "key": "ca.crt"} in spec[
        "secretTargetRef"
    ]
    (tls,) = spec["configMapTargetRef"]
    assert found.named("ConfigMap", tls["name"])["data"][tls["key"]] == "enable"
    # KEDA refuses the switch in both places.
    assert "enableTLS" not in found.of("ScaledObject")[0]["spec"]["triggers"][0]["metadata"]


def test_a_one_shot_pool_has_jobs_and_no_deployment(rendered: dict[str, Rendered]) -> None:
    found = rendered["one-shot"]
    job = found.one("ScaledJob")["spec"]
    assert job["scalingStrategy"]["strategy"] == "accurate"
    pod = job["jobTargetRef"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    env = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert env["FLEET_IDLE_SECONDS"] == "5"
    assert not [e for e in found.of("Deployment") if e["metadata"]["name"] == "fleet-pool-perf"]


@pytest.fixture
def users(
    rendered: dict[str, Rendered], client: redis.Redis, valkey_url: str
) -> Iterator[dict[str, redis.Redis]]:
    """Clients of a Valkey with the rights of the users of the chart's Redis."""
    secret = rendered["default"].named("Secret", "fleet-redis")["stringData"]
    for line in secret["users.acl"].splitlines()[1:]:
        words = re.findall(r"\([^)]*\)|\S+", line)
        client.execute_command("ACL", "SETUSER", *words[1:])
    port = urlsplit(valkey_url).port or 0
    keda = redis.Redis(port=port, username="keda", password=secret["keda-password"])
    url = secret["broker-url"].replace("fleet-redis.agents.svc:6379", f"127.0.0.1:{port}")
    with keda, redis.Redis.from_url(url) as fleet:
        yield {"keda": keda, "fleet": fleet}
    client.acl_deluser("keda", "fleet")


@pytest.mark.parametrize(("user", "role"), [("fleet", "administrator"), ("keda", "keda")])
def test_the_users_of_the_charts_redis_have_the_rights_of_their_roles(
    rendered: dict[str, Rendered], user: str, role: str
) -> None:
    lines = rendered["default"].named("Secret", "fleet-redis")["stringData"]["users.acl"]
    (line,) = (each for each in lines.splitlines() if each.startswith(f"user {user} "))
    rule = " ".join(acl_rule(ROLES[role], AclPlace(Keys("{fleet}"))))
    assert line.startswith(f"user {user} {rule} on #")


def test_keda_may_count_and_nothing_else(users: dict[str, redis.Redis]) -> None:
    keda, fleet = users["keda"], users["fleet"]
    queue = lists("{fleet}.codegen")[1]
    fleet.lpush(queue, "message")
    fleet.hset("{fleet}:pool:codegen:unacked", "tag", "message")
    assert keda.eval(COUNT, 1, queue) == 1
    assert keda.eval(COUNT, 1, "{fleet}:pool:codegen:unacked") == 1
    assert keda.eval(COUNT, 1, "{fleet}.scanner") == 0
    with pytest.raises(redis.exceptions.NoPermissionError):
        keda.lpop(queue)
    with pytest.raises(redis.exceptions.ResponseError, match=r"ACL|permission"):
        keda.eval("return redis.call('lpop', KEYS[1])", 1, queue)
    with pytest.raises(redis.exceptions.ResponseError, match=r"ACL|permission"):
        keda.eval(COUNT, 1, "{fleet}:task:1")


def test_the_fleet_has_the_rights_that_it_checks_for(users: dict[str, redis.Redis]) -> None:
    fleet = users["fleet"]
    Permissions(fleet, Keys("{fleet}"), Scripts(fleet)).check("administrator")
