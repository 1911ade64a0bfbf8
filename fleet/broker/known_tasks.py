"""The names of Fleet's own tasks, and how an application that does not run them sends them.

    app.tasks["agents.code_generator"].delay({"instruction": "..."}, tenant="acme")

Monitors need the tasks too: Flower applies and rate-limits only the tasks that its application has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from celery import Celery, Task
from celery.app.registry import TaskRegistry

from fleet.errors import InvalidRequest

REAP = "fleet.reap"
HEALTH = "fleet.health"
POOLS = "fleet.pools"
ROLL_UP = "fleet.rollup"
ARCHIVE = "fleet.ledger_archive"
SPEND = "fleet.spend"
UNPARK = "fleet.unpark"
BUDGETS = "fleet.budgets"
PRUNE = "fleet.prune"
RETAIN = "fleet.retain"
SCALE = "fleet.scale"
ANCHOR = "fleet.audit_anchor"
ROTATE = "fleet.rotate"

JOBS = frozenset(
    {
        *(REAP, HEALTH, POOLS, ROLL_UP, ARCHIVE, SPEND, UNPARK, BUDGETS, PRUNE, RETAIN, SCALE),
        *(ANCHOR, ROTATE),
    }
)
"""The Celery names of the jobs that beat runs. Any other task whose name begins with `fleet.` is a
user's own."""


RUNS_AGAIN = {"runs_again": True}
"""The option of agents' tasks and jobs: a worker that exits may cut them, since Fleet itself runs
them again."""


def is_plain(task: Any) -> bool:
    """Whether a task is the user's own: neither an agent's task nor a job of beat's."""
    return not getattr(task, "runs_again", False)


class SentTask(Task):
    """An agent's task, as its sender has it. Only a worker of its pool can run it, with a lease and
    under budgets."""

    abstract = True
    # The router checks the arguments and describes what is wrong with them.
    typing = False
    # These settings of the user's own tasks do not apply: the record holds the task's outcome.
    acks_on_failure_or_timeout = True
    reject_on_worker_lost = False

    def apply(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`; so does `apply_async` with `task_always_eager`."""
        raise InvalidRequest(
            f"{self.name} runs only in a worker of the fleet, not by apply() or "
            "task_always_eager; send it by apply_async() or Fleet.submit(). In a test without a "
            "fleet, replace the call by a function of your own"
        )


class KnownTask(SentTask):
    """An agent's task that this process cannot run."""

    def run(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`."""
        raise InvalidRequest(f"{self.name} runs in the workers of the fleet's pools, not here")


class KnownJob(Task):
    """A job of beat's that this process cannot run."""

    ignore_result = True

    def run(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`."""
        raise InvalidRequest(f"{self.name} runs in beat, or in the workers of the fleet's pools")


class NamedTask(Task):
    """A task of another worker. Only its name is known here."""

    typing = False

    def run(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`."""
        raise InvalidRequest(f"{self.name} runs in the workers that have it, not here")


class SeenTasks(TaskRegistry):
    """The tasks of an application, and tasks that were seen elsewhere, by name."""

    def __init__(self, app: Celery, known: TaskRegistry, seen: Callable[[], set[str]]) -> None:
        super().__init__(known)
        self._app = app
        self._seen = seen

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._seen()

    def __missing__(self, name: str) -> Any:
        if name not in self._seen():
            raise self.NotRegistered(name)
        _register(self._app, NamedTask, name)
        return self[name]


def add_seen_tasks(app: Celery, seen: Callable[[], set[str]]) -> None:
    """Let a monitor's application send and rate-limit tasks whose code it does not have. Call this
    before any task is looked up. `seen` returns the names."""
    app._tasks = SeenTasks(app, app._tasks, seen)


def add_known_tasks(app: Celery, agent_tasks: Collection[str]) -> None:
    """Register those of Fleet's tasks that the application does not define itself. `agent_tasks`
    are the Celery names of the agents' tasks."""

    def add(sender: Celery, **_: Any) -> None:
        for name in sorted({*agent_tasks, *JOBS} - set(sender.tasks)):
            _register(sender, KnownJob if name in JOBS else KnownTask, name)

    # After all other tasks are registered, by whatever means.
    app.on_after_finalize.connect(add, weak=False)


def _register(app: Celery, kind: type[Task], name: str) -> None:
    app.register_task(type(kind.__name__, (kind,), {"name": name})())


def forget_known_tasks(app: Celery) -> None:
    """Unregister the tasks that this process cannot run, as a worker does."""
    for name, task in list(app.tasks.items()):
        if isinstance(task, KnownTask | KnownJob):
            app.tasks.pop(name)
