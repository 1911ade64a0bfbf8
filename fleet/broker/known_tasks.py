"""Fleet's tasks as an application that does not run them knows them: by name, to be sent.

    app.tasks["agents.code_generator"].delay({"instruction": "..."}, tenant="acme")

So do monitors: Flower applies and limits only what its application knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task
from celery.app.registry import TaskRegistry

from fleet.broker.application import FleetCelery
from fleet.broker.job_names import JOBS
from fleet.errors import InvalidRequest


class SentTask(Task):
    """An agent's task for its sender. It runs in a worker of its pool, with a lease and under
    budgets, or not at all."""

    abstract = True
    # The router says what is wrong with the arguments.
    typing = False
    # Whatever holds for the user's own tasks: the record says how a task has ended.
    acks_on_failure_or_timeout = True
    reject_on_worker_lost = False

    def apply(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`; so does `apply_async` with `task_always_eager`."""
        raise InvalidRequest(
            f"{self.name} runs in a worker of the fleet alone, not by apply() or "
            "task_always_eager; send it by apply_async() or Fleet.submit(). In a test without a "
            "fleet, put a function of your own in the place of the call"
        )


class KnownTask(SentTask):
    """One that this process cannot run."""

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
    """A task of some worker's, of which no more than the name is known here."""

    typing = False

    def run(self, *_: Any, **__: Any) -> Any:
        """Raises `InvalidRequest`."""
        raise InvalidRequest(f"{self.name} runs in the workers that have it, not here")


class SeenTasks(TaskRegistry):
    """The tasks of an application, and those of other names that are seen elsewhere."""

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


def know_what_is_seen(app: FleetCelery, seen: Callable[[], set[str]]) -> None:
    """Let a monitor's application send, and limit, what it has no code of. To be called before any
    task is looked up; `seen` gives the names."""
    app._tasks = SeenTasks(app, app._tasks, seen)


def add_known_tasks(app: FleetCelery) -> None:
    """Let the application know those of Fleet's tasks that it does not have by itself."""

    def add(sender: Celery, **_: Any) -> None:
        for name in sorted({*app.fleet_router.agent_tasks, *JOBS} - set(sender.tasks)):
            _register(sender, KnownJob if name in JOBS else KnownTask, name)

    # Once all others are there, whatever registers them.
    app.on_after_finalize.connect(add, weak=False)


def _register(app: Celery, kind: type[Task], name: str) -> None:
    app.register_task(type(kind.__name__, (kind,), {"name": name})())


def forget_known_tasks(app: Celery) -> None:
    """Know only what runs here, as a worker does."""
    for name, task in list(app.tasks.items()):
        if isinstance(task, KnownTask | KnownJob):
            app.tasks.pop(name)
