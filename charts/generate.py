"""Writes `values.schema.json` and `README.md` of the chart, and the users of its Redis.

    python charts/generate.py

The schema of `config` is that of fleet.toml, from the models of `fleet.settings`; that of the other
values is below. The table of the README comes from the comments of `values.yaml`.

Helm reads a schema by draft 7 alone with `format`, and knows no look-ahead in a pattern.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys
from fleet.redis.roles import ROLES
from fleet.settings import FleetConfig

CHART = Path(__file__).parent / "fleet"

NO_KEYS = r"^$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
CIDR = r"^[0-9a-fA-F.:]+/[0-9]{1,3}$"
DURATION = r"^([0-9]+(ms|s|m|h))+$"
LABEL = r"^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$"
Quantity = Annotated[str, Field(pattern=QUANTITY)] | Annotated[float, Field(gt=0)]
Cidr = Annotated[str, Field(pattern=CIDR)]
Count = Annotated[int, Field(ge=0, le=1000)]
Some = Annotated[int, Field(ge=1, le=1000)]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Period = Annotated[int, Field(ge=1, le=3600)]
Percent = Annotated[int, Field(ge=1, le=100)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Label = Annotated[str, Field(pattern=LABEL)]
Optional = Annotated[str, Field(pattern=rf"{LABEL}|{NO_KEYS}")]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._\-]{1,253}$")]
OptionalKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9._\-]{0,253}$")]
Password = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~\-]*$")]
Free = dict[str, Any]


class Values(BaseModel):
    """A map of values. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class Image(Values):
    repository: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/:\-]*$")]
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{0,128}$")]
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
    pullPolicy: Literal["Always", "IfNotPresent", "Never"]
    pullSecrets: list[Label]


class Amounts(BaseModel):
    model_config = ConfigDict(extra="allow")
    cpu: Quantity = "1"
    memory: Quantity = "1Gi"


class Resources(Values):
    requests: Amounts
    limits: Amounts


class Budget(Values):
    maxUnavailable: Count | Annotated[str, Field(pattern=r"^[0-9]{1,3}%$")] = 1


class PoolSettings(Values):
    resources: Resources
    nodeSelector: dict[str, str]
    tolerations: list[Free]
    affinity: Free
    topologySpread: bool
    priorityClassName: Annotated[str, Field(pattern=r"^[a-z0-9.\-]{0,253}$")]
    podAnnotations: dict[str, str]
    pdb: Budget
    oneShot: bool


class OneShot(Values):
    idleSeconds: Period
    history: Count


class KedaRedis(Values):
    secretName: Optional
    usernameKey: Key
    passwordKey: Key
    sentinelPasswordKey: OptionalKey
    caKey: OptionalKey


class KedaPrometheus(Values):
    serverAddress: Annotated[str, Field(pattern=r"^(https?://.+)?$")]


class Keda(Values):
    trigger: Literal["redis", "metrics-api", "prometheus"]
    pollingInterval: Period
    cooldownPeriod: Seconds
    stabilizationSeconds: Annotated[int, Field(ge=0, le=3600)]
    failureThreshold: Some
    fallbackReplicas: Count
    redis: KedaRedis
    prometheus: KedaPrometheus
    namespace: Label


class Hpa(Values):
    metric: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.\-/]*$")]
    stabilizationSeconds: Annotated[int, Field(ge=0, le=3600)]


class Scaling(Values):
    by: Literal["keda", "hpa", "fleet", "none"]
    keda: Keda
    hpa: Hpa


class Volume(Values):
    enabled: bool
    size: Quantity
    storageClass: Annotated[str, Field(pattern=r"^[a-z0-9.\-]{0,253}$")]


class InternalRedis(Values):
    enabled: bool
    image: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9][a-z0-9._/:\-]*(:[A-Za-z0-9_][A-Za-z0-9_.\-]*|@sha256:[0-9a-f]{64})$"
        ),
    ]
    resources: Resources
    persistence: Volume
    password: Password
    kedaPassword: Password


class Redis(Values):
    internal: InternalRedis
    url: Annotated[str, Field(pattern=r"^((redis|rediss|sentinel|sentinels)://[^\s]+)?$")]
    secretName: Optional
    secretKey: Key
    tlsSecretName: Optional
    socketTimeout: Annotated[float, Field(gt=0, le=120)]


class Store(Values):
    name: Optional
    kind: Literal["SecretStore", "ClusterSecretStore"]


class External(Values):
    enabled: bool
    store: Store
    remoteKey: str
    refreshInterval: Annotated[str, Field(pattern=DURATION)]


class Vault(Values):
    enabled: bool
    role: str
    path: str
    namespace: Label


class ProviderKeys(Values):
    secretName: Optional
    externalSecret: External
    vault: Vault


class Archive(Volume):
    accessMode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]
    existingClaim: Annotated[str, Field(pattern=r"^[a-z0-9.\-]{0,253}$")]


class Beat(Values):
    replicas: Annotated[int, Field(ge=1, le=10)]
    resources: Resources
    persistence: Archive


class Token(Values):
    secretName: Optional
    secretKey: Key


class Flower(Values):
    enabled: bool
    user: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]
    secretName: Optional
    secretKey: Key
    viewerKey: OptionalKey
    resources: Resources


class OpsScaling(Values):
    enabled: bool
    min: Some
    max: Some
    cpu: Percent
    memory: Percent
    queueMetric: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-/]*$")]
    queueLength: Annotated[int, Field(ge=1, le=100_000)]


class Ops(Values):
    enabled: bool
    secretName: Optional
    secretKey: Key
    replicas: Some
    resources: Resources
    autoscaling: OpsScaling
    pdb: Budget


class Priorities(Values):
    create: bool
    control: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]
    workers: Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]


class Accounts(Values):
    annotations: dict[str, str]


class ApiServer(Values):
    cidrs: Annotated[list[Cidr], Field(min_length=1)]
    ports: Annotated[list[Port], Field(min_length=1)]


class Peer(BaseModel):
    """A rule of egress. One without `to` would allow every address."""

    model_config = ConfigDict(extra="allow")
    to: Annotated[list[Free], Field(min_length=1)]


class NetworkPolicies(Values):
    enabled: bool
    monitoringNamespace: Label
    dnsNamespace: Label
    redisCidrs: Annotated[list[Cidr], Field(min_length=1)]
    httpsCidrs: list[Cidr]
    httpsExcept: list[Cidr]
    apiServer: ApiServer
    clientNamespaces: list[Label]
    extraEgress: list[Peer]


class Istio(Values):
    enabled: bool
    trustDomain: Annotated[str, Field(pattern=r"^[A-Za-z0-9.\-]+$")]
    kedaInMesh: bool
    prometheusInMesh: bool
    clients: list[Annotated[str, Field(pattern=r"^[^\s]+/ns/[^\s/]+/sa/[^\s/]+$")]]


class ServiceMonitor(Values):
    enabled: bool
    interval: Annotated[str, Field(pattern=DURATION)]
    labels: dict[str, str]


class PrometheusRule(Values):
    enabled: bool
    labels: dict[str, str]


class Monitoring(Values):
    serviceMonitor: ServiceMonitor
    prometheusRule: PrometheusRule


class Namespace(Values):
    create: bool


class Variable(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class Chart(Values):
    """All values. `global` is what Helm gives a chart inside another one."""

    global_: Free = Field(alias="global")
    fullnameOverride: Annotated[str, Field(pattern=r"^([a-z]([a-z0-9\-]{0,28}[a-z0-9])?)?$")]
    kubeVersion: Annotated[str, Field(pattern=r"^(v?[0-9]+\.[0-9]+\.[0-9]+.*)?$")]
    fleetNamespace: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_\-]{0,30}$")]
    image: Image
    config: Free
    poolDefaults: PoolSettings
    pools: dict[str, PoolSettings]
    oneShot: OneShot
    scaling: Scaling
    redis: Redis
    modelUrl: Annotated[str, Field(pattern=r"^(https?://.+)?$")]
    modelKey: Token
    logLevel: Literal["debug", "info", "warning", "error"]
    extraEnv: list[Variable]
    providerKeys: ProviderKeys
    beat: Beat
    access: Token
    flower: Flower
    ops: Ops
    priorityClasses: Priorities
    serviceAccounts: Accounts
    networkPolicies: NetworkPolicies
    istio: Istio
    monitoring: Monitoring
    namespace: Namespace


IN_LISTS = ("Peer", "Variable")
"""What stands in lists has no defaults, so that its keys are required."""


def schema() -> str:
    """The schema of the values. A value that is left out has its default, except in lists and in
    the named tables of fleet.toml."""
    found = Chart.model_json_schema(by_alias=True)
    config = FleetConfig.model_json_schema()
    definitions = {
        **found.pop("$defs"),
        **{f"config.{name}": each for name, each in config.pop("$defs").items()},
    }
    _prefix(config, "config.")
    for name, each in definitions.items():
        if name.startswith("config."):
            _prefix(each, "config.")
    found["properties"]["config"] = config
    for part in (found, *definitions.values()):
        _simplify(part)
    for name, part in definitions.items():
        if name.startswith("config."):
            _allow_large_numbers(part)
        elif name not in IN_LISTS:
            part.pop("required", None)
    del found["required"]
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **found,
        "definitions": definitions,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _prefix(part: Any, prefix: str) -> None:
    for child in _children(part):
        if isinstance(child.get("$ref"), str):
            child["$ref"] = child["$ref"].replace("#/$defs/", f"#/$defs/{prefix}")


def _simplify(part: Any) -> None:
    """Leave out titles and defaults, refuse names that fit no pattern, refer as draft 7 does."""
    for child in _children(part):
        for key in ("title", "default", "examples"):
            if not isinstance(child.get(key), dict):
                child.pop(key, None)
        if "patternProperties" in child:
            child["additionalProperties"] = False
        if isinstance(child.get("$ref"), str):
            reference = child["$ref"].replace("#/$defs/", "#/definitions/")
            child.clear()
            child["$ref"] = reference


def _allow_large_numbers(part: Any) -> None:
    """Let a whole number without a maximum stand in quotes. See `fleet.whole` of the templates."""
    for name, each in part.get("properties", {}).items():
        if each.get("type") == "integer" and "maximum" not in each:
            quoted = {"type": "string", "pattern": "^[0-9]{1,18}$"}
            description = each.pop("description")
            part["properties"][name] = {"anyOf": [each, quoted], "description": description}


def _children(part: Any) -> Any:
    if isinstance(part, dict):
        yield part
        for value in list(part.values()):
            yield from _children(value)
    elif isinstance(part, list):
        for value in part:
            yield from _children(value)


HEAD = """# The chart `fleet`

Runs a fleet on Kubernetes: a Deployment for each pool, beat, Flower and the ops endpoint.
[docs/kubernetes.md](../../docs/kubernetes.md) says how to install it, with values by example.

`values.schema.json` refuses wrong values before anything is installed. `charts/generate.py` writes
this file and the schema.

| value | default | meaning |
|---|---|---|
"""


def readme() -> str:
    """The README, with a line for each value."""
    text = (CHART / "values.yaml").read_text()
    values = YAML().load(text)
    descriptions = _descriptions(text)
    return HEAD + "".join(
        f"| `{key}` | `{_shown(value)}` | {descriptions.get(key, '')} |\n"
        for key, value in _leaves(values, "", descriptions)
    )


def _leaves(found: Any, path: str, described: dict[str, str]) -> Any:
    """The values that stand for themselves: those without keys, and those of which no part is
    described."""
    for name, value in found.items():
        key = f"{path}{name}"
        parts = isinstance(value, CommentedMap) and value
        if not parts or not any(each.startswith(f"{key}.") for each in described):
            yield key, value
            continue
        if key in described:
            yield key, ...
        yield from _leaves(value, f"{key}.", described)


def _shown(value: Any) -> str:
    return "..." if value is ... else json.dumps(value)


def _descriptions(text: str) -> dict[str, str]:
    """What the comments `# -- ...` say, by the path of the value below each."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("# ") and comment:
            comment.append(stripped.removeprefix("# "))
        elif match := re.match(r"^( *)([A-Za-z_]+):", line):
            indent = len(match[1])
            path = [each for each in path if each[0] < indent] + [(indent, match[2])]
            if comment:
                found[".".join(name for _, name in path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def redis_users(template: str) -> str:
    """The template of the Redis in the release, with the rules of its users as roles have them."""
    for user, role in (("fleet", "administrator"), ("keda", "keda")):
        rule = " ".join(acl_rule(ROLES[role], AclPlace(Keys("{{ $tag }}"))))
        template = re.sub(rf"(    user {user} ).*( on #)", rf"\g<1>{rule}\g<2>", template)
    return template


def main() -> None:
    """Write all files."""
    users = CHART / "templates" / "redis.yaml"
    users.write_text(redis_users(users.read_text()))
    (CHART / "values.schema.json").write_text(schema())
    (CHART / "README.md").write_text(readme())


if __name__ == "__main__":
    main()
