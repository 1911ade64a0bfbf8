"""The actuators for Kubernetes, against a fake of its API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_kubernetes import FakeKubernetes
from free_ports import free_port
from kubernetes import client

from fleet.errors import FleetError, InvalidConfig, NotAllowed, Unavailable
from fleet.routing.agents_store import agent_id
from fleet.scaling.cluster import Cluster
from fleet.scaling.kubernetes import KedaActuator, KubernetesActuator
from fleet.scaling.rules.deletion_cost import FIRST, deletion_cost
from fleet.scaling.rules.readings import AgentReading
from fleet.settings import FleetConfig, parse_config

DEPLOYMENT = "fleet-pool-codegen"
NOON = 1_796_040_000.0
DAY = 86400.0
CODEGEN = '[pools.codegen]\nagent_type = "code_generator"\n'


def seen(pod: str, running: int = 0, leaving: str = "") -> AgentReading:
    """An agent as the scaler sees it."""
    status = "busy" if running else "idle"
    return AgentReading(agent(pod), "codegen", status, running, 0.1, NOON, None, leaving)


def agent(pod: str) -> str:
    return agent_id("codegen", pod, 1)


@pytest.fixture
def config() -> FleetConfig:
    return parse_config(CODEGEN, "test")


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as found:
        found.deploy(DEPLOYMENT, "a", "b", "c")
        yield found


def cluster_at(url: str) -> Cluster:
    settings = client.Configuration()
    settings.host, settings.retries = url, 0
    return Cluster(client.ApiClient(settings), "fleet")


@pytest.fixture
def actuator(config: FleetConfig, kubernetes: FakeKubernetes) -> KubernetesActuator:
    return KubernetesActuator(config, cluster_at(kubernetes.url))


def test_more_workers_are_asked_for_at_once(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.apply("codegen", 7, [])
    assert kubernetes.deployments[DEPLOYMENT] == 7


def test_the_size_that_is_there_is_not_written_again(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.apply("codegen", 3, [])
    assert [method for method, _ in kubernetes.requests] == ["GET"]


def test_a_scale_in_waits_for_agents_that_still_run_tasks(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.apply("codegen", 1, [])
    assert kubernetes.deployments[DEPLOYMENT] == 3
    actuator.apply("codegen", 1, [agent("b")])
    assert kubernetes.deployments[DEPLOYMENT] == 2


def test_the_agents_that_may_end_are_those_that_end(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.note_agents([seen("a", 3), seen("b"), seen("c")])
    actuator.apply("codegen", 1, [agent("c"), agent("a")])
    kubernetes.settle()
    assert kubernetes.live(DEPLOYMENT) == ["b"]


def test_an_agent_whose_pod_is_ending_is_not_counted_twice(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.apply("codegen", 1, [agent("a")])
    kubernetes.settle()
    actuator.apply("codegen", 1, [agent("a")])
    assert kubernetes.deployments[DEPLOYMENT] == 2


def test_no_second_scale_in_begins_before_the_first_is_done(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    for _ in range(3):
        actuator.apply("codegen", 0, [agent("a")])
    assert kubernetes.deployments[DEPLOYMENT] == 2


def test_a_pool_goes_to_zero_and_back(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.apply("codegen", 0, [agent("a"), agent("b"), agent("c")])
    kubernetes.settle()
    assert kubernetes.live(DEPLOYMENT) == []
    actuator.apply("codegen", 0, [])
    actuator.apply("codegen", 2, [])
    assert kubernetes.deployments[DEPLOYMENT] == 2


def test_deletion_costs_are_written_on_the_edges_between_busy_and_idle_alone(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    rows = [seen("a"), seen("b", 2)]
    actuator.note_agents(rows)
    assert len(kubernetes.requests) == 2
    actuator.note_agents([seen("a"), seen("b", 5)])
    assert len(kubernetes.requests) == 2
    actuator.note_agents([seen("a", 1), seen("b", 1)])
    assert [path.partition("?")[0][-1] for _, path in kubernetes.requests] == ["a", "b", "a"]


def test_a_drained_agent_that_is_taken_back_costs_as_before(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.note_agents([seen("a", leaving="drained")])
    assert kubernetes.cost("a") < 0
    actuator.note_agents([seen("a")])
    assert kubernetes.cost("a") == deletion_cost(NOON, 0, False)


def test_an_agent_outside_the_cluster_costs_nothing(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.note_agents([seen("laptop")])
    actuator.note_agents([seen("laptop")])
    assert len(kubernetes.requests) == 1


def test_keda_is_left_to_scale_and_ends_idle_agents_first(kubernetes: FakeKubernetes) -> None:
    actuator = KedaActuator(cluster_at(kubernetes.url))
    actuator.check()
    actuator.note_agents([seen("a", 1), seen("b"), seen("c", 1)])
    actuator.apply("codegen", 1, [])
    assert kubernetes.deployments[DEPLOYMENT] == 3
    assert kubernetes.cost("b") < kubernetes.cost("a") == kubernetes.cost("c")


def test_costs_end_the_drained_first_then_the_idle_then_the_busy_and_the_oldest_among_equals() -> (
    None
):
    order = [
        FIRST,
        deletion_cost(NOON - DAY, 1, True),
        deletion_cost(NOON, 0, True),
        deletion_cost(NOON - DAY, 0, False),
        deletion_cost(NOON, 0, False),
        deletion_cost(NOON - DAY, 1, False),
        deletion_cost(NOON, 9, False),
    ]
    assert order == sorted(set(order))
    assert all(-(2**31) <= cost < 2**31 for cost in order)


def test_a_pool_without_a_deployment_is_named_at_the_check(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    actuator.check()
    del kubernetes.deployments[DEPLOYMENT]
    with pytest.raises(InvalidConfig, match=f"no Deployment {DEPLOYMENT} in namespace fleet"):
        actuator.check()
    with pytest.raises(InvalidConfig, match="is gone"):
        actuator.apply("codegen", 2, [])


def test_two_pools_of_one_deployment_are_refused(kubernetes: FakeKubernetes) -> None:
    same = "x" * 60
    pools = "".join(
        f'[pools.{same}{end}]\nagent_type = "code_generator"\n' for end in ("a", "b")
    )
    actuator = KubernetesActuator(parse_config(pools, "test"), cluster_at(kubernetes.url))
    with pytest.raises(InvalidConfig, match=r"kubernetes\.deployment: 2 pools"):
        actuator.check()


@pytest.mark.parametrize(
    ("refusal", "error"), [(401, NotAllowed), (403, NotAllowed), (500, Unavailable)]
)
def test_what_the_cluster_refuses_is_an_error_and_nothing_is_scaled(
    kubernetes: FakeKubernetes,
    actuator: KubernetesActuator,
    refusal: int,
    error: type[FleetError],
) -> None:
    kubernetes.refusal = refusal
    for act in (actuator.check, lambda: actuator.apply("codegen", 9, [agent("a")])):
        with pytest.raises(error, match="Deployment fleet-pool-codegen in namespace fleet"):
            act()
    assert kubernetes.deployments[DEPLOYMENT] == 3


def test_an_answer_that_the_client_cannot_read_is_an_error_and_nothing_is_scaled(
    kubernetes: FakeKubernetes, actuator: KubernetesActuator
) -> None:
    # Version 37 of the client raises a ValidationError here, and no ApiException.
    kubernetes.is_garbled = True
    with pytest.raises(Unavailable, match="cannot read the answer"):
        actuator.apply("codegen", 9, [])
    assert kubernetes.deployments[DEPLOYMENT] == 3


def test_a_cluster_that_does_not_answer_is_asked_again_later(config: FleetConfig) -> None:
    actuator = KubernetesActuator(config, cluster_at(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable, match="Kubernetes does not answer"):
        actuator.apply("codegen", 2, [])


@pytest.mark.parametrize(
    ("pool", "name"),
    [
        ("code_gen", "fleet-pool-code-gen"),
        ("x_", "fleet-pool-x"),
        ("y" * 63, "fleet-pool-" + "y" * 41),
    ],
)
def test_a_deployment_has_the_name_that_the_chart_gives_it(pool: str, name: str) -> None:
    assert FleetConfig().kubernetes.deployment_of(pool) == name
