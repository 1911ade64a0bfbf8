"""A simulation, from the request to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fleet.errors import InvalidRequest
from fleet.models.catalogue import catalogue
from fleet.models.keys import ProviderKeys
from fleet.routing.health import health_policy
from fleet.routing.routes import Routes
from fleet.routing.rules.strategies import Strategy
from fleet.settings import FleetConfig, Settings, parse_config
from fleet.simulation.record import from_csv, from_records
from fleet.simulation.report import Report, recorded_row, simulated_row
from fleet.simulation.rules.events import AS_THE_FLEET, Conditions, check, simulate
from fleet.simulation.rules.outcomes import Outcomes
from fleet.simulation.rules.pools import SimulatedPool
from fleet.simulation.rules.producers import Way
from fleet.simulation.rules.workload import Workload
from fleet.simulation.source import (
    Source,
    SyntheticLoad,
    recorded_source,
    synthetic_source,
)
from fleet.simulation.what_if import WhatIf, busiest
from fleet.tasks.connection import Connection

Progress = Callable[[str, int, int], None]
"""Called with the fleet's name, the number of tasks that have arrived, and their total."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to simulate: one of `recorded` (the number of newest tasks), `csv` and `synthetic`.

    The changes are combined: each of `strategies`, or else the configured routes, runs with these
    `weights`, `pools` and `models`. A task whose run fails is submitted again, up to `runs` runs.
    """

    recorded: int | None = None
    csv: Path | None = None
    synthetic: SyntheticLoad | None = None
    strategies: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    pools: Path | None = None
    models: Path | None = None
    conditions: Conditions = AS_THE_FLEET
    runs: int = 1
    seed: int = 1


def report(connection: Connection, ask: Ask, progress: Progress | None = None) -> Report:
    """Simulate the fleet as configured, and with the requested changes.

    Raises `InvalidRequest` or `InvalidConfig` for an invalid request, before any simulation, and
    `Unavailable` if recorded tasks cannot be read.
    """
    if [ask.recorded, ask.csv, ask.synthetic].count(None) != 2:
        raise InvalidRequest("choose what to simulate: --recorded, --csv FILE or --synthetic")
    changed = connection.policy.store.read().routes if ask.recorded else {}
    config = connection.settings.config
    models, routes = tuple(connection.models.catalogue), Routes(config, changed)
    now = WhatIf("as configured", config, models, routes, connection.agents)
    fleets = (now, *_changes(now, connection.settings, ask))
    source = _source(connection, ask, now)
    ready = [_Simulation.of(fleet, source, ask, connection.strategies) for fleet in fleets]
    rows = [simulated_row(each.fleet, source, each.run(ask.seed, progress)) for each in ready]
    return Report(
        source.name,
        len(source.workload),
        source.left_out,
        recorded_row(source.tasks, now.models) if source.tasks else None,
        tuple(rows),
        source.measured,
        source.assumed,
    )


@dataclass(frozen=True, slots=True)
class _Simulation:
    """A checked fleet with its workload, ready to run."""

    fleet: WhatIf
    workload: Workload
    pools: list[SimulatedPool]
    ways: list[Way]
    conditions: Conditions
    strategies: Mapping[str, Strategy]

    @classmethod
    def of(
        cls, fleet: WhatIf, source: Source, ask: Ask, strategies: Mapping[str, Strategy]
    ) -> _Simulation:
        kinds = tuple(fleet.kinds(source.kinds).values())
        conditions = replace(
            ask.conditions,
            half_life=fleet.config.routing.half_life_seconds,
            health=health_policy(fleet.config),
            look=fleet.config.health.look_seconds,
        )
        found = cls(
            fleet,
            replace(source.workload, kinds=kinds),
            fleet.pools(source.experience, busiest(source.tasks)),
            fleet.ways(source.kinds, strategies),
            conditions,
            strategies,
        )
        check(found.workload, found.pools, found.conditions)
        return found

    def run(self, seed: int, progress: Progress | None) -> Outcomes:
        total = len(self.workload)
        return simulate(
            self.workload,
            self.pools,
            self.ways,
            self.conditions,
            rng=np.random.default_rng(seed),
            strategies=self.strategies,
            progress=progress and (lambda arrived: progress(self.fleet.name, arrived, total)),
        )


def _source(connection: Connection, ask: Ask, now: WhatIf) -> Source:
    if ask.synthetic:
        return synthetic_source(ask.synthetic, now, ask.seed, ask.runs)
    if ask.csv:
        return recorded_source("csv", from_csv(ask.csv), now, ask.seed, ask.runs, 0)
    found, left_out = from_records(connection.tasks.records, ask.recorded or 0)
    return recorded_source("recorded", found, now, ask.seed, ask.runs, left_out)


def _changes(now: WhatIf, settings: Settings, ask: Ask) -> list[WhatIf]:
    """The fleets with the requested changes. Empty without changes."""
    if not (ask.strategies or ask.weights or ask.pools or ask.models):
        return []
    changed = replace(now, name="what if", weights=ask.weights)
    if ask.pools:
        config = _config(ask.pools)
        changed = replace(changed, config=config, routes=Routes(config, {}))
    if ask.models:
        changed = _with_models(changed, settings, ask.models)
    return [replace(changed, name=name, strategy=name) for name in ask.strategies] or [changed]


def _with_models(fleet: WhatIf, settings: Settings, path: Path) -> WhatIf:
    """The fleet with the models of a file, as if every provider's key were set."""
    config = _config(path)
    used = {model.provider for model in config.catalogue.values()}
    providers = (p for name, p in config.providers.items() if name in used)
    assumed = {name: "assumed" for provider in providers for name in provider.variables}
    keys = ProviderKeys(config.providers, assumed)
    models = catalogue(replace(settings, config=config, source=str(path)), keys)
    return replace(
        fleet, models=models, config=fleet.config.model_copy(update={"models": config.models})
    )


def _config(path: Path) -> FleetConfig:
    try:
        return parse_config(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}; give a readable fleet.toml") from error
