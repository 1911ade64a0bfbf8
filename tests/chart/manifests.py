"""What JSON schemas cannot see in manifests. Each check returns its faults as sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]

QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
RESTART_POLICIES = {
    "Deployment": (None, "Always"),
    "StatefulSet": (None, "Always"),
    "ScaledJob": ("Never", "OnFailure"),
}
DROPPED = {
    ("policy/v1beta1", "PodSecurityPolicy"),
    ("policy/v1beta1", "PodDisruptionBudget"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
    ("batch/v1beta1", "CronJob"),
    ("extensions/v1beta1", "Deployment"),
    ("extensions/v1beta1", "Ingress"),
    ("extensions/v1beta1", "NetworkPolicy"),
    ("apps/v1beta1", "Deployment"),
    ("apps/v1beta2", "Deployment"),
    ("networking.k8s.io/v1beta1", "Ingress"),
    ("rbac.authorization.k8s.io/v1beta1", "Role"),
    ("scheduling.k8s.io/v1beta1", "PriorityClass"),
    ("security.istio.io/v1beta1", "RbacConfig"),
}
"""What Kubernetes and Istio served once and do no longer."""
WHEN_KEYS = re.compile(
    r"request\.headers\[[^\]]+\]|source\.(ip|namespace|principal|serviceAccount)|remote\.ip"
    r"|request\.auth\.(principal|audiences|presenter|claims\[[^\]]+\](\[[^\]]+\])*)"
    r"|destination\.(ip|port)|connection\.sni|experimental\.envoy\.filters\.[a-z.]+\[[^\]]+\]"
)
"""The keys of `when` that Istio documents."""
HTTP_KEYS = re.compile(r"request\.")
HTTP_FIELDS = {"hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"}
VOLUMES = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected"}
CHANGING_LABELS = {"app.kubernetes.io/version", "helm.sh/chart"}


def name_of(found: Manifest) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def templates(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each object that makes pods, with the template of its pods."""
    for each in manifests:
        spec = each.get("spec") or {}
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each, spec["template"]
        elif each["kind"] == "ScaledJob":
            yield each, spec["jobTargetRef"]["template"]


def containers(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    for owner, template in templates(manifests):
        spec = template["spec"]
        for each in (*spec.get("initContainers", ()), *spec["containers"]):
            yield owner, each


def values_at(found: Any, key: str) -> Iterator[Any]:
    """All values that have this key, at any depth."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == key:
                yield value
            yield from values_at(value, key)
    elif isinstance(found, list):
        for value in found:
            yield from values_at(value, key)


def restart_policies(manifests: Sequence[Manifest]) -> Iterator[str]:
    for owner, template in templates(manifests):
        policy = template["spec"].get("restartPolicy")
        if policy not in RESTART_POLICIES[owner["kind"]]:
            yield f"{name_of(owner)}: restartPolicy {policy}"


def quantities(manifests: Sequence[Manifest]) -> Iterator[str]:
    for owner, container in containers(manifests):
        resources = container.get("resources", {})
        for kind in ("requests", "limits"):
            for name in ("cpu", "memory"):
                value = resources.get(kind, {}).get(name)
                if value is None or not QUANTITY.fullmatch(str(value)):
                    yield f"{name_of(owner)}: {kind} of {name}: {value!r}"
    for each in manifests:
        for value in values_at(each, "storage"):
            if not QUANTITY.fullmatch(str(value)):
                yield f"{name_of(each)}: storage: {value!r}"


def ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Numbers in range, and names that a container has."""
    for each in manifests:
        for key in ("containerPort", "port", "targetPort"):
            for value in values_at(each.get("spec"), key):
                if isinstance(value, int) and not 0 < value < 65_536:
                    yield f"{name_of(each)}: {key} {value}"
    for owner, container in containers(manifests):
        named = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for value in values_at(container.get(probe, {}), "port"):
                if isinstance(value, str) and value not in named:
                    yield f"{name_of(owner)}: {probe} asks the port {value}, which it has not"
    pods = list(templates(manifests))
    for each in manifests:
        if each["kind"] != "Service":
            continue
        served = {
            port["name"]
            for _, template in pods
            if _matches(each["spec"]["selector"], template["metadata"]["labels"])
            for container in template["spec"]["containers"]
            for port in container.get("ports", ())
        }
        for port in each["spec"]["ports"]:
            if port["targetPort"] not in served:
                yield f"{name_of(each)}: no pod serves its port {port['targetPort']}"


def _matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in selector.items())


def selected(found: Manifest) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The selectors of pods in an object: where they stand, and the labels."""
    spec, kind = found.get("spec") or {}, found["kind"]
    if kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        yield "selector", spec["selector"]["matchLabels"]
    elif kind == "Service":
        yield "selector", spec["selector"]
    elif kind in ("PeerAuthentication", "AuthorizationPolicy"):
        yield "selector", spec["selector"]["matchLabels"]
    elif kind == "NetworkPolicy":
        for value in values_at(spec, "podSelector"):
            yield "podSelector", value["matchLabels"]
    for value in values_at(spec, "topologySpreadConstraints"):
        for each in value:
            yield "topologySpreadConstraints", each["labelSelector"]["matchLabels"]


def selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Each selects a pod, and by labels that stay over upgrades."""
    pods = [template["metadata"]["labels"] for _, template in templates(manifests)]
    services = [each for each in manifests if each["kind"] == "Service"]
    for each in manifests:
        for where, labels in selected(each):
            if not labels or not any(_matches(labels, pod) for pod in pods):
                yield f"{name_of(each)}: {where} selects no pod: {dict(labels)}"
            for name in CHANGING_LABELS & set(labels):
                yield f"{name_of(each)}: {where} selects by {name}, which changes"
        if each["kind"] == "ServiceMonitor":
            labels = each["spec"]["selector"]["matchLabels"]
            found = [s for s in services if _matches(labels, s["metadata"]["labels"])]
            named = {port["name"] for service in found for port in service["spec"]["ports"]}
            for endpoint in each["spec"]["endpoints"]:
                if endpoint["port"] not in named:
                    yield f"{name_of(each)}: no Service has the port {endpoint['port']}"


def targets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What is scaled exists, and nobody else sets its replicas."""
    there = {(each["kind"], each["metadata"]["name"]): each for each in manifests}
    scaled: Counter[str] = Counter()
    for each in manifests:
        target = (each.get("spec") or {}).get("scaleTargetRef")
        if target is None:
            continue
        found = there.get((target["kind"], target["name"]))
        scaled[target["name"]] += 1
        if found is None:
            yield f"{name_of(each)}: there is no {target['kind']} {target['name']}"
        elif "replicas" in found["spec"]:
            yield f"{name_of(found)}: it sets replicas, and {name_of(each)} does too"
    for name, count in scaled.items():
        if count > 1:
            yield f"{name}: {count} objects scale it"
    for each in manifests:
        if each["kind"] == "DestinationRule":
            service = each["spec"]["host"].partition(".")[0]
            if ("Service", service) not in there:
                yield f"{name_of(each)}: there is no Service {service}"


def references(manifests: Sequence[Manifest], outside: Sequence[str] = ()) -> Iterator[str]:
    """Every ConfigMap, Secret, claim, account and authentication that is named is there."""
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for each in manifests:
        if each["kind"] == "ExternalSecret":
            there.add(("Secret", each["spec"]["target"]["name"]))
    for each in manifests:
        for kind, name in _named(each):
            if (kind, name) not in there and name not in outside:
                yield f"{name_of(each)}: there is no {kind} {name}"


def _named(found: Manifest) -> Iterator[tuple[str, str]]:
    spec = found.get("spec") or {}
    for value in values_at(spec, "secretKeyRef"):
        yield "Secret", value["name"]
    for value in values_at(spec, "secretName"):
        yield "Secret", value
    for value in values_at(spec, "configMap"):
        yield "ConfigMap", value["name"]
    for value in values_at(spec, "claimName"):
        yield "PersistentVolumeClaim", value
    for value in values_at(spec, "serviceAccountName"):
        yield "ServiceAccount", value
    for value in values_at(spec, "secretTargetRef"):
        yield from (("Secret", each["name"]) for each in value)
    for value in values_at(spec, "authenticationRef"):
        yield "TriggerAuthentication", value["name"]
    for value in found.get("subjects", ()):
        yield value["kind"], value["name"]
    if "roleRef" in found:
        yield found["roleRef"]["kind"], found["roleRef"]["name"]


def egress(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A rule without `to` or `from` allows every address."""
    for each in manifests:
        if each["kind"] != "NetworkPolicy":
            continue
        for direction, peers in (("egress", "to"), ("ingress", "from")):
            for rule in each["spec"].get(direction, ()):
                if not rule.get(peers) or {} in rule[peers]:
                    yield f"{name_of(each)}: an {direction} rule has an empty `{peers}`"
                if not rule.get("ports"):
                    yield f"{name_of(each)}: an {direction} rule has no ports"


def istio_rules(
    manifests: Sequence[Manifest], tcp_ports: Sequence[str] = ("6379",)
) -> Iterator[str]:
    """Keys that Istio knows, and none of HTTP where a port is TCP."""
    for each in manifests:
        if each["kind"] != "AuthorizationPolicy":
            continue
        spec = each["spec"]
        text = repr(spec)
        is_tcp = any(port in text for port in tcp_ports)
        for condition in (c for conditions in values_at(spec, "when") for c in conditions):
            if not WHEN_KEYS.fullmatch(condition["key"]):
                yield f"{name_of(each)}: Istio has no key {condition['key']}"
            if is_tcp and HTTP_KEYS.match(condition["key"]):
                yield f"{name_of(each)}: {condition['key']} is of HTTP, and Redis is TCP"
            if not condition.get("values") and not condition.get("notValues"):
                yield f"{name_of(each)}: {condition['key']} has no values"
        for operation in values_at(spec, "operation"):
            if is_tcp and HTTP_FIELDS & set(operation):
                yield f"{name_of(each)}: {sorted(HTTP_FIELDS & set(operation))}, and Redis is TCP"


def mesh_ports(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Istio's rules name ports of pods, not of Services."""
    pods = list(templates(manifests))
    for each in manifests:
        if each["kind"] not in ("AuthorizationPolicy", "PeerAuthentication"):
            continue
        labels = each["spec"]["selector"]["matchLabels"]
        served = {
            str(port["containerPort"])
            for _, template in pods
            if _matches(labels, template["metadata"]["labels"])
            for container in template["spec"]["containers"]
            for port in container.get("ports", ())
        }
        named = set(each["spec"].get("portLevelMtls", ()))
        for condition in (c for conditions in values_at(each["spec"], "when") for c in conditions):
            if condition["key"] == "destination.port":
                named |= set(condition["values"])
        for port in sorted(named - served):
            yield f"{name_of(each)}: no pod of it has the port {port}"


def images(manifests: Sequence[Manifest]) -> Iterator[str]:
    for owner, container in containers(manifests):
        image = container["image"]
        _, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"{name_of(owner)}: image {image} has no version"


def probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Kubernetes can tell whether each process lives, and whether one with a port is ready."""
    for owner, container in containers(manifests):
        wanted = ["livenessProbe"] + ["readinessProbe"] * bool(container.get("ports"))
        for probe in wanted:
            if probe not in container:
                yield f"{name_of(owner)}: no {probe}"


def pod_security(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The level `restricted`, and a root file system that is read-only."""
    for owner, template in templates(manifests):
        spec, found = template["spec"], template["spec"].get("securityContext", {})
        wanted = {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 2000,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for key, value in wanted.items():
            if found.get(key) != value:
                yield f"{name_of(owner)}: {key} is {found.get(key)}"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                yield f"{name_of(owner)}: {key}"
        for volume in spec.get("volumes", ()):
            if not (set(volume) - {"name"}) <= VOLUMES:
                yield f"{name_of(owner)}: volume {volume}"
    for owner, container in containers(manifests):
        context = container.get("securityContext", {})
        if (
            context.get("allowPrivilegeEscalation") is not False
            or context.get("readOnlyRootFilesystem") is not True
            or context.get("capabilities") != {"drop": ["ALL"]}
        ):
            yield f"{name_of(owner)}: securityContext {context}"


def dropped(manifests: Sequence[Manifest]) -> Iterator[str]:
    for each in manifests:
        if (each["apiVersion"], each["kind"]) in DROPPED:
            yield f"{name_of(each)}: {each['apiVersion']} is no longer served"


def names(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Each object once, with a name that Kubernetes takes, also for what it derives from it."""
    seen = Counter((each["kind"], each["metadata"]["name"]) for each in manifests)
    for (kind, name), count in seen.items():
        most = 52 if kind in ("Deployment", "StatefulSet", "ScaledJob", "ScaledObject") else 63
        if count > 1:
            yield f"{kind} {name}: {count} times"
        if len(name) > most or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            yield f"{kind} {name}: no name"
    for each in manifests:
        for name, value in each["metadata"].get("labels", {}).items():
            if not isinstance(value, str) or not re.fullmatch(
                r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", value
            ):
                yield f"{name_of(each)}: label {name}: {value!r}"


CHECKS: tuple[Callable[[Sequence[Manifest]], Iterator[str]], ...] = (
    restart_policies,
    quantities,
    ports,
    selectors,
    targets,
    egress,
    istio_rules,
    mesh_ports,
    images,
    probes,
    pod_security,
    dropped,
    names,
)
