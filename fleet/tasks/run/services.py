"""What the runs of one worker process share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from fleet.agent import Outcome
from fleet.budgets.cached_policy import CachedPolicy
from fleet.models.callers import ModelCallers
from fleet.models.examples_store import Examples
from fleet.models.rules.catalogue import Model
from fleet.models.store import ModelState
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.rules import Draws

RunCoroutine = Callable[[Coroutine[Any, Any, Outcome]], "Future[Outcome]"]


class PoolAgent(NamedTuple):
    """The agent of the process: its pool and its id."""

    pool: str
    id: str


@dataclass(frozen=True, slots=True)
class ModelServices:
    """What model sessions need. `models` is the catalogue by name, with current prices; `callers`
    has the models that this process can reach."""

    models: Mapping[str, Model]
    callers: ModelCallers
    calls: ModelCallStore
    state: ModelState
    examples: Examples
    policy: CachedPolicy


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The run-time of the process: lease renewal, event loop, slots, and the random numbers that
    spread retries. `hidden` replaces the secrets that the process knows in the text of an error."""

    keeper: LeaseKeeper
    run_coroutine: RunCoroutine
    slots: TaskSlots
    rng: Draws
    hidden: Callable[[str], str]
