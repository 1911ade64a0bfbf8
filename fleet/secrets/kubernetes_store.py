"""The store `kubernetes`: one Secret of the cluster for each path.

`agents/NAME` is the Secret `agent-secrets-NAME`. Another path is written with `-` and a hash. Its
fields are those of the newest version, so that a pod may mount it. Each version is kept beside them
under `vN.json`, the newest ten. Kubernetes itself encrypts nothing unless the cluster is told to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from fleet.errors import InvalidConfig, InvalidRequest, SecretNotFound, SecretsUnavailable
from fleet.kubernetes_api import TIMEOUT, connect_api, kubernetes_errors, or_none
from fleet.secrets.store import written_before
from fleet.secrets.values import Secret, SecretVersion, check_fields, check_path

NAME = "agent-secrets-{}"
PLAIN = re.compile(r"agents/([a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?)")
"""The paths whose last part can stand in the name of a Secret as it is."""
HASH_CHARACTERS = 12
MAX_SLUG = 100
LABELS = {"app.kubernetes.io/managed-by": "fleet", "app.kubernetes.io/component": "agent-secrets"}
SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())
PATH_ANNOTATION = "fleet/secret-path"
VERSION_KEY = re.compile(r"v([1-9][0-9]{0,8})\.json")
MAX_VERSIONS = 10
"""The size of a Secret is limited to 1 MiB."""
RIGHTS = "get, list, create and update of secrets"
CONFLICT = 409


class _Kept(NamedTuple):
    """A version inside a Secret. `fields` is None if it is destroyed."""

    epoch: float
    fields: dict[str, str] | None


class KubernetesStore:
    """Secrets in the Secrets of one namespace. `connect` gives the client, and its namespace."""

    name = "kubernetes"
    is_writable = True

    def __init__(
        self,
        namespace: str | None,
        connect: Callable[[str], tuple[client.ApiClient, str]] = connect_api,
        clock: Callable[[], float] = time.time,
    ) -> None:
        api, own = connect("secrets.stores")
        self._namespace = namespace or own
        self._core = client.CoreV1Api(api)
        self._clock = clock

    def read(self, path: str, version: int | None = None) -> Secret:
        """A version of a secret. Raises `SecretNotFound`."""
        check_path(path)
        _, kept = self._found(path)
        if version is None:
            version = max((n for n, each in kept.items() if each.fields is not None), default=0)
        found = kept.get(version)
        if found is None or found.fields is None:
            what = f"version {version} of {path}" if version else path
            raise SecretNotFound(f"{what} is not in namespace {self._namespace}")
        return Secret(path, version, found.fields, found.epoch, self.name)

    def write(self, path: str, fields: Mapping[str, str], expected: int) -> int:
        """Write the next version, unless the Secret has changed since it was read."""
        check_path(path)
        check_fields(fields)
        resource_version, kept = self._found(path)
        if max(kept, default=0) != expected:
            return written_before(self, path, fields, expected)
        version = expected + 1
        kept[version] = _Kept(self._clock(), dict(fields))
        if not self._put(path, resource_version, kept):
            return written_before(self, path, fields, expected)
        return version

    def versions(self, path: str) -> list[SecretVersion]:
        """The newest ten versions, oldest first. Raises `SecretNotFound`."""
        check_path(path)
        _, kept = self._found(path)
        if not kept:
            raise SecretNotFound(f"{path} is not in namespace {self._namespace}")
        return [SecretVersion(n, each.epoch, each.fields is None) for n, each in kept.items()]

    def paths(self, prefix: str = "") -> list[str]:
        """The paths below a prefix, sorted."""
        with self._errors("list its Secrets"):
            found = self._core.list_namespaced_secret(
                self._namespace, label_selector=SELECTOR, _request_timeout=TIMEOUT
            )
        facts = (each.metadata and each.metadata.annotations for each in found.items)
        named = ((each or {}).get(PATH_ANNOTATION) for each in facts)
        return sorted(path for path in named if path and path.startswith(prefix))

    def destroy(self, path: str, version: int) -> None:
        """Write the Secret anew without the values of a version. Raises `SecretsUnavailable` if
        somebody else writes it at the same time."""
        check_path(path)
        resource_version, kept = self._found(path)
        if version not in kept or kept[version].fields is None:
            return
        kept[version] = kept[version]._replace(fields=None)
        if not self._put(path, resource_version, kept):
            raise SecretsUnavailable(f"{path} is being written by somebody else; try again")

    def _found(self, path: str) -> tuple[str | None, dict[int, _Kept]]:
        """The resource version of a Secret, and its versions, oldest first. None, and none, if
        there is no such Secret."""
        name = name_of(path)
        with self._errors(f"read Secret {name}"):
            found = or_none(
                lambda: self._core.read_namespaced_secret(
                    name, self._namespace, _request_timeout=TIMEOUT
                )
            )
        if found is None:
            return None, {}
        if (found.metadata.annotations or {}).get(PATH_ANNOTATION) != path:
            raise InvalidConfig(
                f"Secret {name} in namespace {self._namespace} is not that of {path}: somebody "
                "else made it; rename it"
            )
        try:
            kept = _versions(found.data or {})
        except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest):
            raise InvalidConfig(
                f"Secret {name} in namespace {self._namespace} was altered, and Fleet cannot read "
                "it; delete it, and set the secret again"
            ) from None
        return found.metadata.resource_version, kept

    def _put(self, path: str, resource_version: str | None, kept: dict[int, _Kept]) -> bool:
        """Write a Secret whose resource version is this one; None: there is none. False if that has
        changed."""
        name = name_of(path)
        body = _body(path, resource_version, kept)
        with self._errors(f"write Secret {name}"):
            try:
                if resource_version is None:
                    self._core.create_namespaced_secret(
                        self._namespace, body, _request_timeout=TIMEOUT
                    )
                else:
                    self._core.replace_namespaced_secret(
                        name, self._namespace, body, _request_timeout=TIMEOUT
                    )
            except ApiException as error:
                if error.status == CONFLICT:
                    return False
                raise
        return True

    def _errors(self, what: str) -> AbstractContextManager[None]:
        return kubernetes_errors(what, self._namespace, RIGHTS, SecretsUnavailable)


def name_of(path: str) -> str:
    """The name of the Secret of a path. No two paths have the same."""
    plain = PLAIN.fullmatch(path)
    if plain and not re.search(rf"-[0-9a-f]{{{HASH_CHARACTERS}}}$", path):
        return NAME.format(plain[1])
    slug = re.sub(r"[^a-z0-9]+", "-", path)[:MAX_SLUG].strip("-")
    return NAME.format(f"{slug}-{hashlib.sha256(path.encode()).hexdigest()[:HASH_CHARACTERS]}")


def _body(path: str, resource_version: str | None, kept: dict[int, _Kept]) -> Any:
    """A Secret as the API takes it. Its values are Base64 as text: the client's own V1Secret takes
    bytes, and then cannot send them."""
    newest = dict(sorted(kept.items())[-MAX_VERSIONS:])
    data = {
        f"v{number}.json": json.dumps(each._asdict(), ensure_ascii=False)
        for number, each in newest.items()
    }
    live = [each.fields for each in newest.values() if each.fields is not None]
    data |= live[-1] if live else {}
    metadata = {"name": name_of(path), "labels": LABELS, "annotations": {PATH_ANNOTATION: path}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata | ({"resourceVersion": resource_version} if resource_version else {}),
        "data": {key: base64.b64encode(text.encode()).decode() for key, text in data.items()},
    }


def _versions(data: Mapping[str, str]) -> dict[int, _Kept]:
    """The versions in the data of a Secret, oldest first. Any error means: Fleet did not write it.
    """
    found = {}
    for key, encoded in data.items():
        if number := VERSION_KEY.fullmatch(key):
            kept = json.loads(base64.b64decode(encoded, validate=True))
            fields = kept["fields"]
            if fields is not None:
                check_fields(fields)
            found[int(number[1])] = _Kept(float(kept["epoch"]), fields)
    return dict(sorted(found.items()))
