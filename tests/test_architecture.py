"""Each module has its place among the rooms, and imports only what its room may."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter.application.use_cases import read_user_options
from importlinter.configuration import configure
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.domain.contract import Contract

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "A room imports only the rooms under it": ("fleet.redis.keys", "fleet.tasks.store"),
    "fleet knows nothing of the workers and jobs that are composed from it": (
        "fleet.agent",
        "workers.app",
    ),
    "Rules are pure: no clock, no dice, no sockets, no files": (
        "fleet.routing.rules.scoring",
        "time",
    ),
    "Celery and kombu are imported in broker, worker, beat and web alone": (
        "fleet.tasks.submission.submit",
        "celery",
    ),
    "redis-py is imported in fleet.redis, in stores and under Celery alone": (
        "fleet.operations.health",
        "redis",
    ),
    "structlog is imported in fleet.telemetry alone": ("fleet.tasks.reaper", "structlog"),
    "Agents know what an agent is, the sandbox and the errors, and nothing of the fleet that "
    "runs them": ("workers.code_generator.agent", "fleet.tasks.store"),
}
"""An import that each contract has to find."""


@pytest.fixture(scope="module")
def options() -> Any:
    configure()
    return read_user_options(config_filename=str(ROOT / "setup.cfg"))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    packages = ("fleet", "workers", "beat_schedules")
    return grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def contracts(options: Any) -> dict[str, Contract]:
    return dict(_contracts(options))


def _contracts(options: Any) -> Iterator[tuple[str, Contract]]:
    for each in options.contracts_options:
        name = each["name"]
        kind = {"layers": LayersContract, "forbidden": ForbiddenContract}[each["type"]]
        yield name, kind(name, options.session_options, each)


def _breaks(contract: Contract, graph: grimp.ImportGraph) -> bool:
    # A check takes out of its graph what it ignores.
    return not contract.check(deepcopy(graph), verbose=False).kept


def test_each_contract_is_kept(contracts: dict[str, Contract], graph: grimp.ImportGraph) -> None:
    assert [name for name, each in contracts.items() if _breaks(each, graph)] == []


def test_each_contract_finds_an_import_that_it_forbids(
    contracts: dict[str, Contract], graph: grimp.ImportGraph
) -> None:
    assert contracts.keys() == FORBIDDEN.keys()
    for name, (importer, imported) in FORBIDDEN.items():
        graph.add_import(importer=importer, imported=imported)
        assert _breaks(contracts[name], graph), name
        graph.remove_import(importer=importer, imported=imported)


def test_a_room_that_no_contract_names_is_found(
    contracts: dict[str, Contract], graph: grimp.ImportGraph
) -> None:
    graph.add_module("fleet.attic")
    assert _breaks(contracts["A room imports only the rooms under it"], graph)
    graph.remove_module("fleet.attic")


def test_the_top_level_is_the_agreed_one() -> None:
    packages = "fleet workers beat_schedules charts tests benchmarks docs examples findings"
    files = (
        "setup.cfg requirements.txt requirements-model.txt Procfile README.md pyproject.toml "
        "Makefile Dockerfile CHANGELOG.md AGENTS.md"
    )
    agreed = {*packages.split(), *files.split(), "build", "dist"}
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.suffix != ".egg-info"
    }
    assert found - agreed == set()
