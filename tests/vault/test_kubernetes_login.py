"""Login with the token of a service account: a real Vault asks a real Kubernetes API."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_services import TOOL, Services, make_account, start
from kubernetes import client
from real_vault import RealVault

from fleet.errors import NotAllowed
from fleet.secrets.kubernetes_store import KubernetesStore
from fleet.secrets.vault_client import VaultClient
from fleet.secrets.vault_store import VaultStore

pytestmark = [pytest.mark.vault, pytest.mark.cluster]

PATH = "agents/coder"
RIGHTS = (("", "secrets", ("get", "list", "create", "update")),)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    data = tmp_path_factory.mktemp("cluster")
    try:
        start(data, "kubernetes")
        yield Services(data, data / "kubeconfig")
    finally:
        if TOOL.exists():
            subprocess.run([str(TOOL), "stop", "--data", str(data)], check=False)


@pytest.fixture(scope="session")
def token(cluster: Services) -> str:
    """The token of the fleet's service account, which may keep Secrets."""
    core = client.CoreV1Api(cluster.api())
    core.create_namespace({"metadata": {"name": "fleet"}})
    return make_account(cluster, "fleet", "worker", RIGHTS)


@pytest.fixture(scope="session")
def reviewer(cluster: Services, token: str) -> str:
    """The token with which Vault asks the cluster about tokens."""
    found = make_account(cluster, "fleet", "vault", ())
    client.RbacAuthorizationV1Api(cluster.api()).create_cluster_role_binding(
        {
            "metadata": {"name": "vault"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:auth-delegator",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": "fleet"}],
        }
    )
    return found


def test_a_service_account_logs_in_and_another_does_not(
    real_vault: RealVault, cluster: Services, token: str, reviewer: str, tmp_path: Path
) -> None:
    tenant, root = real_vault.tenant(), real_vault.root
    found = json.loads(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    root.sys.enable_auth_method("kubernetes", path=tenant.name)
    root.auth.kubernetes.configure(
        kubernetes_host=found["server"],
        kubernetes_ca_cert=Path(cluster.api().configuration.ssl_ca_cert).read_text(),
        token_reviewer_jwt=reviewer,
        disable_local_ca_jwt=True,
        mount_point=tenant.name,
    )
    root.auth.kubernetes.create_role(
        "fleet",
        bound_service_account_names=["worker"],
        bound_service_account_namespaces=["fleet"],
        policies=[tenant.name],
        mount_point=tenant.name,
    )
    (tmp_path / "token").write_text(token)
    settings = tenant.settings(
        login="kubernetes",
        login_mount=tenant.name,
        role="fleet",
        role_id=None,
        secret_id_file=None,
        service_account_file=tmp_path / "token",
    )
    store = VaultStore(settings, VaultClient(settings, None))
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    (tmp_path / "token").write_text(reviewer)
    with pytest.raises(NotAllowed, match="refuses the login kubernetes"):
        VaultStore(settings, VaultClient(settings, None)).read(PATH)


def test_secrets_are_kept_in_a_real_cluster(cluster: Services, token: str) -> None:
    store = KubernetesStore("fleet", lambda _: (cluster.api_as(token), "fleet"))
    assert store.write(PATH, {"api_key": "one"}, 0) == 1
    assert store.write(PATH, {"api_key": "two"}, 1) == 2
    assert store.read(PATH, 1).fields == {"api_key": "one"}
    store.destroy(PATH, 1)
    assert [each.destroyed for each in store.versions(PATH)] == [True, False]
    assert store.paths("agents/") == [PATH]
    with pytest.raises(NotAllowed, match="in namespace default"):
        KubernetesStore("default", lambda _: (cluster.api_as(token), "fleet")).read(PATH)
