"""The report of a simulation: a row for each fleet, and one for what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.models.rules.choice import Model
from fleet.routing.rules.scoring import FloatArray
from fleet.simulation.rules.outcomes import Figures, Outcomes, Spread
from fleet.simulation.rules.replay import PastTask
from fleet.simulation.source import Source
from fleet.simulation.what_if import WhatIf


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The result of one fleet.

    `cost` is in nano-dollars, `quality` from 0 to 1; both are None if the record lacks them.
    `models` has the share of the tasks that each model answers, `waits` the seconds that each task
    waited.
    """

    name: str
    figures: Figures
    cost: int | None
    quality: float | None
    models: dict[str, float]
    waits: FloatArray

    def to_json(self) -> dict[str, object]:
        """For `json.dumps`, without `waits`."""
        return {
            "name": self.name,
            **self.figures.to_json(),
            "cost_nanodollars": self.cost,
            "quality": self.quality,
            "models": self.models,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What happened, if the tasks are recorded, and the result of each simulated fleet."""

    source: str
    tasks: int
    left_out: int
    happened: Row | None
    simulated: tuple[Row, ...]
    measured: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def rows(self) -> list[Row]:
        """All rows, what happened first."""
        return [*([self.happened] if self.happened else []), *self.simulated]

    def to_json(self) -> dict[str, object]:
        """For `json.dumps`."""
        return {
            "source": self.source,
            "tasks": self.tasks,
            "left_out": self.left_out,
            "happened": self.happened.to_json() if self.happened else None,
            "simulated": [row.to_json() for row in self.simulated],
            "measured": self.measured,
            "assumed": self.assumed,
        }


def simulated_row(fleet: WhatIf, source: Source, outcomes: Outcomes) -> Row:
    """The result of a simulation, with the models that this fleet would choose."""
    chosen = fleet.chosen(source.kinds)
    answered = [chosen[kind] for kind in source.workload.kind.tolist()]
    runs = outcomes.runs.tolist()
    if source.tasks:
        each = zip(answered, source.tasks, runs, strict=True)
        cost = sum(fleet.cost(candidate, task, count) for candidate, task, count in each)
    else:
        each_run = zip(answered, runs, strict=True)
        cost = sum(candidate.cost_nanodollars * count for candidate, count in each_run)
    return Row(
        fleet.name,
        outcomes.figures(),
        cost,
        float(np.mean([candidate.quality for candidate in answered])),
        _shares(candidate.model for candidate in answered),
        outcomes.wait,
    )


def recorded_row(tasks: Sequence[PastTask], models: Sequence[Model]) -> Row:
    """What happened, from the record. Waits are those of the tasks that have one."""
    timed = [(t.wait_seconds, t.run_seconds) for t in tasks if t.wait_seconds is not None]
    waits = np.array([wait for wait, _ in timed], dtype=np.float64)
    answers = np.array([wait + run for wait, run in timed], dtype=np.float64)
    costs = [task.cost_nanodollars for task in tasks if task.cost_nanodollars is not None]
    quality = {model.name: model.quality for model in models}
    known = [quality[task.model] for task in tasks if task.model in quality]
    figures = Figures(
        Spread.of(waits),
        Spread.of(answers),
        float(np.mean([task.good for task in tasks])),
        float(np.mean([task.runs > 1 for task in tasks])),
        _shares(task.pool for task in tasks if task.pool),
    )
    return Row(
        "what happened",
        figures,
        sum(costs) if len(costs) == len(tasks) else None,
        float(np.mean(known)) if len(known) == len(tasks) else None,
        _shares(task.model for task in tasks if task.model),
        waits,
    )


def _shares(names: Iterable[str]) -> dict[str, float]:
    counts = Counter(names)
    return {name: count / counts.total() for name, count in sorted(counts.items())}
