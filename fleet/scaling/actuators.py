"""The installed actuators: Fleet's own, and those of other packages.

A package adds one with an entry point that names a function from the fleet's connection to a
`fleet.scaling.actuator.Actuator`:

    [options.entry_points]
    fleet.scaling_actuators =
        nomad = acme.scaling:nomad_actuator
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from fleet.errors import InvalidConfig
from fleet.scaling.actuator import Actuator
from fleet.scaling.rules.readings import AgentReading
from fleet.scaling.store import ScalingStore
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.text import unknown

ENTRY_POINT_GROUP = "fleet.scaling_actuators"
PROCESSES = "processes"
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


def _nobody(_: Connection) -> Actuator:
    return Nobody()


def _kubernetes(connection: Connection) -> Actuator:
    # Imported here: the client takes half a second and 60 MB, and most fleets need none.
    from fleet.scaling.kubernetes import kubernetes_actuator

    return kubernetes_actuator(connection)


def _keda(connection: Connection) -> Actuator:
    from fleet.scaling.kubernetes import keda_actuator

    return keda_actuator(connection)


ActuatorFactory = Callable[[Connection], Actuator]
ACTUATORS: Mapping[str, ActuatorFactory] = MappingProxyType(
    {PROCESSES: _processes, "kubernetes": _kubernetes, "keda": _keda, NONE: _nobody}
)
"""Fleet's own actuators by name."""


def scaling_store(connection: Connection) -> ScalingStore:
    """The store of scaling on the connection of a fleet."""
    scripts = connection.routing.pools.scripts
    return ScalingStore(connection.client, connection.keys, scripts, connection.settings)


def installed_actuators() -> Mapping[str, ActuatorFactory]:
    """Every actuator by its name. Raises `InvalidConfig` for a name that is used twice."""
    found = dict(ACTUATORS)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in found:
            raise InvalidConfig(
                f"entry point {entry.value} of {ENTRY_POINT_GROUP} is called {entry.name}, like "
                "another actuator; rename it"
            )
        found[entry.name] = entry.load()
    return found


def actuator_of(connection: Connection) -> Actuator:
    """The configured actuator. Raises `InvalidConfig` as `check_actuator`, and if it cannot scale
    the configured pools."""
    actuator = check_actuator(connection.settings)(connection)
    actuator.check()
    return actuator


def check_actuator(settings: Settings) -> ActuatorFactory:
    """The factory of the configured actuator. Raises `InvalidConfig` if there is none of this
    name."""
    name, installed = settings.config.scaling.actuator, installed_actuators()
    if name not in installed:
        sentence = unknown("actuator", name, installed)
        raise InvalidConfig(f"{settings.source}: scaling.actuator: {sentence}")
    return installed[name]
