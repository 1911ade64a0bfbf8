"""What the runs of one worker process share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.agent import Outcome
from fleet.budgets.cached_policy import CachedPolicy
from fleet.models.examples_store import Examples
from fleet.models.rules.catalogue import Model
from fleet.models.store import ModelState
from fleet.tasks.leases.renewal import LeaseKeeper
from fleet.tasks.leases.slots import TaskSlots
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.rules.retries import Draws

if TYPE_CHECKING:
    from fleet.models.calls.call import ModelCaller

RunCoroutine = Callable[[Coroutine[Any, Any, Outcome]], "Future[Outcome]"]


class PoolAgent(NamedTuple):
    """The agent whose tasks the process runs: its pool and its id."""

    pool: str
    id: str


@dataclass(frozen=True, slots=True)
class ModelServices:
    """What sessions with models need. `models` are the catalogue's by name, each as it is priced
    when it is looked up; `callers` are for those that this process can reach."""

    models: Mapping[str, Model]
    callers: Mapping[str, ModelCaller]
    calls: ModelCallStore
    state: ModelState
    examples: Examples
    policy: CachedPolicy


@dataclass(frozen=True, slots=True)
class RunProcess:
    """What keeps runs going in the process: their leases, their event loop, their slots; and the
    dice that retries are spread by."""

    keeper: LeaseKeeper
    run_coroutine: RunCoroutine
    slots: TaskSlots
    rng: Draws
