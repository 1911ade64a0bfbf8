"""What every actuator does, whatever starts and ends its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import tomli_w
from fake_kubernetes import FakeKubernetes
from kubernetes.config import kube_config

from fleet.errors import InvalidConfig, RetryLater
from fleet.scaling.actuator import Actuator
from fleet.scaling.actuators import ACTUATORS, NONE, actuator_of, scaling_store
from fleet.scaling.orders_store import Orders
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import Settings, load_settings
from fleet.tasks.connection import open_connection

NAMES = sorted(ACTUATORS)
AGENT = "codegen-7@a"
SEEN = AgentReading(AGENT, "codegen", "idle", 0, 0.1, 1_796_040_000.0, None, "")
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: fake
contexts: [{name: fake, context: {cluster: fake, user: fake, namespace: fleet}}]
clusters: [{name: fake, cluster: {server: "URL"}}]
users: [{name: fake, user: {}}]
"""

Make = Callable[[str], Actuator]


@pytest.fixture
def cluster() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as found:
        for pool in ("codegen", "scanner", "perf"):
            found.deploy(f"fleet-pool-{pool}", *("a" if pool == "codegen" else pool,))
        yield found


@pytest.fixture
def make(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    cluster: FakeKubernetes,
    clean_environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Make:
    """Makes an actuator by its name, for the default pools, as beat does."""
    (tmp_path / "kubeconfig").write_text(KUBECONFIG.replace("URL", cluster.url))
    # The client has read KUBECONFIG when it was imported.
    location = str(tmp_path / "kubeconfig")
    clean_environment.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", location)
    clean_environment.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return lambda name: actuator_of(
        open_connection(settings_of(tomli_w.dumps({"scaling": {"actuator": name}})))
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_actuator_has_the_name_that_it_is_configured_by(name: str, make: Make) -> None:
    assert make(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_same_order_may_be_given_again_and_by_another_process(name: str, make: Make) -> None:
    for workers in (2, 2, 0, 1):
        for leaving in ((), (AGENT,), ("codegen-8@gone",)):
            actuator = make(name)
            actuator.note_agents([SEEN], leaving)
            actuator.apply("codegen", workers, leaving)


@pytest.mark.parametrize("name", sorted({*NAMES} - {NONE, "keda"}))
def test_an_actuator_that_cannot_act_now_says_so_and_acts_later(
    name: str, make: Make, cluster: FakeKubernetes, clean_environment: pytest.MonkeyPatch
) -> None:
    actuator = make(name)
    if name == "processes":
        clean_environment.setenv("FLEET_BROKER_URL", "redis://127.0.0.1:1/0")
        actuator = actuator_of(open_connection(load_settings()))
    cluster.refusal = 500
    with pytest.raises(RetryLater):
        actuator.apply("codegen", 2, ())
    cluster.refusal = None
    make(name).apply("codegen", 2, ())


def test_an_order_for_local_processes_is_what_supervisors_read(
    make: Make, settings_of: Callable[[str], Settings]
) -> None:
    make("processes").apply("codegen", 3, ())
    store = scaling_store(open_connection(settings_of("")))
    orders = Orders(store.client, store.keys, store.scripts, "here:1")
    found = orders.follow({"codegen": 0, "scanner": 0}).orders
    assert (found["codegen"].workers, found["scanner"].workers) == (3, None)


def test_an_unknown_actuator_is_refused_with_those_there_are(make: Make) -> None:
    with pytest.raises(InvalidConfig, match=r"scaling\.actuator: no actuator is called 'clowns'"):
        make("clowns")
