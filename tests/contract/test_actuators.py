"""What every actuator does, whatever starts and ends its workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from fake_kubernetes import FakeKubernetes

from fleet.errors import InvalidConfig, RetryLater
from fleet.scaling.actuator import Actuator
from fleet.scaling.actuators import ACTUATORS, actuator_of, check_actuator, scaling_store
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import FleetConfig, Settings, load_settings
from fleet.tasks.connection import open_connection

NAMES = ("processes", "pool", "kubernetes", "keda", "none")
SILENT = {"keda", "none"}
"""Those that only publish decisions."""

Make = Callable[[str], Actuator]


@pytest.fixture
def kubernetes(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubernetes]:
    """A fake cluster with a Deployment for each of the default pools."""
    with FakeKubernetes() as found:
        for pool in FleetConfig().pools:
            found.deploy(f"fleet-pool-{pool}", f"{pool}-pod")
        (tmp_path / "kubeconfig").write_text(json.dumps(found.kubeconfig))
        clean_environment.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        clean_environment.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield found


@pytest.fixture
def make(
    client: redis.Redis, settings_of: Callable[[str], Settings], kubernetes: FakeKubernetes
) -> Make:
    """Makes an actuator by its name, for the default pools."""

    def make(name: str) -> Actuator:
        pools = FleetConfig().pools if name == "pool" else ()
        processes = "".join(_prefork(pool) for pool in pools)
        return actuator_of(
            open_connection(settings_of(f'[scaling]\nactuator = "{name}"\n{processes}'))
        )

    return make


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        ("", "pools.codegen: its workers are threads, and Celery cannot add threads"),
        ("min = 0\n", "pools.codegen: min is 0"),
    ],
    ids=["threads", "to-zero"],
)
def test_a_pool_whose_workers_cannot_grow_is_refused(
    pool: str, sentence: str, settings_of: Callable[[str], Settings]
) -> None:
    codegen = _prefork("codegen") + pool if pool else ""
    settings = settings_of(f'[scaling]\nactuator = "pool"\n{codegen}')
    with pytest.raises(InvalidConfig, match=sentence):
        check_actuator(settings)


def _prefork(pool: str) -> str:
    """One of the default pools, with workers of processes."""
    agent_type = FleetConfig().pools[pool].agent_type
    return f'[pools.{pool}]\nagent_type = "{agent_type}"\nexecution = "prefork"\n'


def test_each_actuator_is_checked_here() -> None:
    assert set(NAMES) == set(ACTUATORS)


@pytest.mark.parametrize("name", NAMES)
def test_an_actuator_has_the_name_that_it_is_configured_by(name: str, make: Make) -> None:
    assert make(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_the_same_order_may_be_given_again_and_by_another_process(name: str, make: Make) -> None:
    for workers in (2, 2, 0, 1):
        make(name).apply("codegen", workers, ())
        make(name).apply("codegen", workers, ("codegen-host-7",))


@pytest.mark.parametrize("name", NAMES)
def test_agents_may_be_noted_again_and_those_of_other_places_too(name: str, make: Make) -> None:
    agents = [
        AgentReading(f"codegen-7@{host}", "codegen", "busy", 1, 0.1, 1.8e9, None, "")
        for host in ("codegen-pod", "laptop")
    ]
    actuator = make(name)
    for known in (agents, agents, []):
        actuator.note_agents(known)


@pytest.mark.parametrize("name", sorted({*NAMES} - SILENT))
def test_an_actuator_that_cannot_act_now_says_so(
    name: str, make: Make, kubernetes: FakeKubernetes, clean_environment: pytest.MonkeyPatch
) -> None:
    make(name)
    clean_environment.setenv("FLEET_BROKER_URL", "redis://127.0.0.1:1/0")
    away = actuator_of(open_connection(load_settings()))
    assert away.name == name
    kubernetes.refusal = 503
    with pytest.raises(RetryLater):
        away.apply("codegen", 5, ())


@pytest.mark.parametrize("name", sorted({*NAMES} & SILENT))
def test_who_ends_no_agent_that_the_fleet_drains_says_so(name: str, make: Make) -> None:
    assert not make(name).ends_drained


def test_an_order_for_local_processes_is_what_supervisors_read(
    make: Make, settings_of: Callable[[str], Settings]
) -> None:
    make("processes").apply("codegen", 3, ())
    from fleet.scaling.orders_store import Orders

    store = scaling_store(open_connection(settings_of("")))
    orders = Orders(store.client, store.keys, store.scripts, "here:1")
    found = orders.follow({"codegen": 0, "scanner": 0}).orders
    assert (found["codegen"].workers, found["scanner"].workers) == (3, None)


def test_an_unknown_actuator_is_refused_with_those_there_are(make: Make) -> None:
    with pytest.raises(InvalidConfig, match=r"scaling\.actuator: no actuator is called 'clowns'"):
        make("clowns")
