"""The installed actuators: Fleet's own, and those of other packages.

A package adds one with an entry point that names an `ActuatorFactory`, which makes a
`fleet.scaling.actuator.Actuator` from the fleet's connection:

    [options.entry_points]
    fleet.scaling_actuators =
        nomad = acme.scaling:NOMAD
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fleet.errors import InvalidConfig
from fleet.extensions import installed
from fleet.scaling.actuator import Actuator
from fleet.scaling.rules.readings import AgentReading
from fleet.scaling.store import ScalingStore
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.text import unknown

ENTRY_POINT_GROUP = "fleet.scaling_actuators"
PROCESSES = "processes"
POOL = "pool"
NONE = "none"


class Processes:
    """Local workers: `fleet up` on each machine reads the order, and starts and ends its own
    workers. See `fleet.local.local_workers`."""

    name = PROCESSES
    ends_drained = True

    def __init__(self, store: ScalingStore) -> None:
        self.store = store

    def check(self) -> None:
        """`fleet up` can run workers of every pool."""

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Supervisors look at the agents themselves."""

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Order the workers. Those that may end are marked in the registry of agents already."""
        self.store.order(pool, workers)


class GrowingWorkers:
    """Workers of processes that grow and shrink while they run: each reads the order, see
    `fleet.worker.growth`."""

    name = POOL
    ends_drained = True

    def __init__(self, store: ScalingStore) -> None:
        self.store = store

    def check(self) -> None:
        """Raise `InvalidConfig` for a pool whose workers cannot grow."""
        check_growing(self.store.settings)

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Workers look at the agents themselves."""

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Order the size. The parts that may end are marked in the registry of agents already."""
        self.store.order(pool, workers)


class Nobody:
    """Starts and ends nothing. Decisions are kept and shown, and people act on them."""

    name = NONE
    ends_drained = False

    def check(self) -> None:
        """There is nothing to check."""

    def note_agents(self, agents: Iterable[AgentReading]) -> None:
        """Do nothing."""

    def apply(self, pool: str, workers: int, leaving: Collection[str]) -> None:
        """Do nothing."""


def _processes(connection: Connection) -> Actuator:
    return Processes(scaling_store(connection))


def _growing_workers(connection: Connection) -> Actuator:
    return GrowingWorkers(scaling_store(connection))


def _nobody(_: Connection) -> Actuator:
    return Nobody()


def _kubernetes(connection: Connection) -> Actuator:
    # Imported here: the client takes half a second and 60 MB, and most fleets need none.
    from fleet.scaling.kubernetes import kubernetes_actuator

    return kubernetes_actuator(connection)


def _keda(connection: Connection) -> Actuator:
    from fleet.scaling.kubernetes import keda_actuator

    return keda_actuator(connection)


@dataclass(frozen=True, slots=True)
class ActuatorFactory:
    """Makes an actuator from the connection of a fleet."""

    make: Callable[[Connection], Actuator]


ACTUATORS: Mapping[str, ActuatorFactory] = MappingProxyType(
    {
        PROCESSES: ActuatorFactory(_processes),
        POOL: ActuatorFactory(_growing_workers),
        "kubernetes": ActuatorFactory(_kubernetes),
        "keda": ActuatorFactory(_keda),
        NONE: ActuatorFactory(_nobody),
    }
)
"""Fleet's own actuators by name."""


def scaling_store(connection: Connection) -> ScalingStore:
    """The store of scaling on the connection of a fleet."""
    scripts = connection.routing.pools.scripts
    return ScalingStore(connection.client, connection.keys, scripts, connection.settings)


def installed_actuators() -> Mapping[str, ActuatorFactory]:
    """Every actuator by its name. Raises the errors of `installed`."""
    return installed(ENTRY_POINT_GROUP, "actuator", ACTUATORS, ActuatorFactory)


def actuator_of(connection: Connection) -> Actuator:
    """The configured actuator. Raises `InvalidConfig` as `check_actuator`, and if it cannot scale
    the configured pools."""
    actuator = check_actuator(connection.settings).make(connection)
    actuator.check()
    return actuator


def check_actuator(settings: Settings) -> ActuatorFactory:
    """The factory of the configured actuator. Raises `InvalidConfig` if there is none of this name,
    and for `pool` if the workers of a pool cannot grow."""
    name, known = settings.config.scaling.actuator, installed_actuators()
    if name not in known:
        sentence = unknown("actuator", name, known)
        raise InvalidConfig(f"{settings.source}: scaling.actuator: {sentence}")
    if name == POOL:
        check_growing(settings)
    return known[name]


def check_growing(settings: Settings) -> None:
    """Raise `InvalidConfig` for a pool whose workers cannot grow and shrink while they run."""
    for name, pool in settings.config.pools.items():
        where = f"{settings.source}: pools.{name}"
        if pool.execution != "prefork":
            raise InvalidConfig(
                f"{where}: its workers are threads, and Celery cannot add threads to a running "
                'worker; set execution = "prefork" there, or another scaling.actuator'
            )
        if pool.min < 1:
            raise InvalidConfig(
                f"{where}: min is 0, and a running worker keeps its first part; set min = 1 or "
                "another scaling.actuator"
            )
