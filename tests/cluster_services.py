"""Starts real services, such as a Kubernetes API or Vault, and makes accounts in the API.

The program that builds and starts the services is named in REAL_SERVICES.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes import client, config

ROOT = Path(__file__).parents[1]
TOOL = Path(os.environ.get("REAL_SERVICES") or ROOT.parent / "shared" / "tools" / "real-services")
NOT_BUILT = ("is not here", "is not on PATH", "No such file")
RIGHTS = (
    ("apps", "deployments/scale", ("get", "patch")),
    ("", "pods", ("patch",)),
)
"""What the actuators need: API group, resource, verbs."""


@dataclass(frozen=True)
class Services:
    """The services that run, and how to reach them. `keda` starts KEDA too."""

    data: Path
    kubeconfig: Path

    def api(self) -> client.ApiClient:
        """A client of the administrator."""
        return config.new_client_from_config(config_file=str(self.kubeconfig))

    def kubeconfig_of(self, token: str) -> str:
        """A kubeconfig of whoever has a token."""
        found = json.loads(self.kubeconfig.read_text())
        found["users"][0]["user"] = {"token": token}
        return json.dumps(found)

    def api_as(self, token: str) -> client.ApiClient:
        """A client of whoever has a token."""
        return config.new_client_from_config_dict(json.loads(self.kubeconfig_of(token)))


def start(data: Path, *names: str) -> None:
    """Start services. Skips the test if they are not there, or not built."""
    if not TOOL.exists():
        pytest.skip(f"no real services: {TOOL} does not exist; name the program in REAL_SERVICES")
    command = [str(TOOL), "start", *names, "--data", str(data)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode and any(words in ended.stderr for words in NOT_BUILT):
        pytest.skip(f"no real services: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr


def make_account(
    services: Services, namespace: str, name: str, rights: Sequence[tuple[str, str, Sequence[str]]]
) -> str:
    """A service account with rights in its namespace; its token."""
    core, rbac = client.CoreV1Api(services.api()), client.RbacAuthorizationV1Api(services.api())
    core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resource, verbs in rights
    ]
    rbac.create_namespaced_role(namespace, {"metadata": {"name": name}, "rules": rules})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    )
    found = core.create_namespaced_service_account_token(name, namespace, {"spec": {}})
    return str(found.status.token)


def until(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    """Wait until a condition holds, and fail with what was awaited if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.1)
