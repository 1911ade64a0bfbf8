"""What installed packages announce by entry points, and faulty announcements."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from fleet import agent, extensions
from fleet.errors import InvalidConfig
from fleet.routing import strategies
from fleet.routing.rules.strategies import STRATEGIES
from fleet.scaling import actuators, policies

KINDS: dict[str, tuple[Callable[[], Collection[str]], str, str, str]] = {
    "agent": (
        agent.installed_agents,
        agent.ENTRY_POINT_GROUP,
        "workers.code_generator:SPEC",
        "AgentSpec",
    ),
    "strategy": (
        strategies.installed_strategies,
        strategies.ENTRY_POINT_GROUP,
        "extension_of_a_test:NEAREST",
        "Strategy",
    ),
    "policy": (
        policies.installed_policies,
        policies.ENTRY_POINT_GROUP,
        "fleet.scaling.rules.policies:SQUARE_ROOT",
        "ScalingPolicy",
    ),
    "actuator": (
        actuators.installed_actuators,
        actuators.ENTRY_POINT_GROUP,
        "extension_of_a_test:NOMAD",
        "ActuatorFactory",
    ),
}
NEAREST = next(iter(STRATEGIES.values()))
NOMAD = actuators.ActuatorFactory(lambda connection: actuators.Nobody())


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setitem(sys.modules, "extension_of_a_test", sys.modules[__name__])

    def announce(group: str, *entries: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, group) for name, value in entries]
        monkeypatch.setattr(extensions, "announced", lambda path: EntryPoints(found))

    return announce


@pytest.mark.parametrize("kind", KINDS)
def test_an_extension_of_another_package_is_found(kind: str, announce: Callable[..., None]) -> None:
    installed, group, value, _ = KINDS[kind]
    announce(group, ("acme", value))
    names = installed()
    assert ("code_generator" if kind == "agent" else "acme") in names


@pytest.mark.parametrize("kind", KINDS)
def test_an_extension_of_another_type_is_refused(
    kind: str, announce: Callable[..., None]
) -> None:
    installed, group, _, wanted = KINDS[kind]
    announce(group, ("acme", "fleet.text:brief"))
    with pytest.raises(InvalidConfig, match=f"which is no {wanted}; name a"):
        installed()


@pytest.mark.parametrize("kind", KINDS)
def test_an_extension_that_cannot_be_imported_is_refused(
    kind: str, announce: Callable[..., None]
) -> None:
    installed, group, *_ = KINDS[kind]
    announce(group, ("acme", "fleet.nowhere:THING"))
    with pytest.raises(InvalidConfig, match="which cannot be imported"):
        installed()


@pytest.mark.parametrize(
    ("kind", "name"), [("strategy", "soonest"), ("policy", "threshold"), ("actuator", "none")]
)
def test_the_name_of_an_extension_is_used_once(
    kind: str, name: str, announce: Callable[..., None]
) -> None:
    installed, group, value, _ = KINDS[kind]
    announce(group, (name, value))
    with pytest.raises(InvalidConfig, match=f"like another {kind}; rename it"):
        installed()


def test_two_agents_of_one_type_are_refused(announce: Callable[..., None]) -> None:
    value = "workers.code_generator:SPEC"
    announce(agent.ENTRY_POINT_GROUP, ("one", value), ("other", value))
    with pytest.raises(InvalidConfig, match="two installed packages bring an agent of type"):
        agent.installed_agents()
