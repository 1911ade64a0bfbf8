"""Groups and chords that contain agents' tasks are sent as a whole, or not at all.

Celery sends the tasks of a group one by one. If a limit stopped the sixth of eight, five would run
and be paid, the body of the chord would never be called, and the caller would not have their ids.

So while a Fleet application sends a group, nothing leaves the process. `TaskPlacer` in `router.py`
collects the agents' tasks, and all other messages wait. Then one atomic step,
`Submitter.submit_whole`, checks and holds all of the agents' tasks, and the other messages are
published. The same applies to groups that a worker sends: the next step of a chain, a callback, a
replacement. A group without agents' tasks is sent as in any Celery application.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from celery import chord, group
from celery.result import GroupResult
from celery.states import FAILURE
from kombu.exceptions import OperationalError
from kombu.serialization import dumps
from redis import RedisError

from fleet.broker.messages import HEADER, agent_tasks_of
from fleet.broker.submission import Header
from fleet.errors import NotReplicated, PartlySubmitted, RetryLater
from fleet.tasks.submission.refusals import REFUSALS
from fleet.tasks.submission.submit import Ready, Submitter

UNAVAILABLE_ERRORS = (RetryLater, OperationalError, RedisError, OSError)
"""Errors that say that the broker or Redis is unavailable."""

_sent_now: ContextVar[GroupProducer | None] = ContextVar("group_that_is_sent", default=None)


def group_that_is_sent() -> GroupProducer | None:
    """The collector of the group that this thread sends now; None if it sends none."""
    return _sent_now.get()


class GroupProducer:
    """Replaces the producer while a group is sent, and publishes nothing until `send`."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.tasks: list[Ready] = []
        self._others: list[tuple[str, Callable[[], Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def publish(self, body: Any, *args: Any, **options: Any) -> None:
        """Keep a message for later. An agent's task passes to `TaskPlacer`, which collects it."""
        headers = options.get("headers") or {}
        publish = partial(self._producer.publish, body, *args, **options)
        # A user's own task may have a header of this name too.
        if isinstance(headers.get(HEADER), Header):
            publish()
        else:
            # A body that cannot be serialized raises here, before anything is sent.
            if not options.get("content_type"):
                dumps(body, serializer=options.get("serializer") or self._producer.serializer)
            self._others.append((str(headers.get("id") or ""), publish))

    def send(self, submitter: Submitter) -> None:
        """Submit the agents' tasks as a whole, then publish the rest.

        Raises `PartlySubmitted` if the broker fails in between, and `NotReplicated` after all is
        sent."""
        unreplicated = None
        try:
            done = submitter.submit_whole(self.tasks)
            sent = [each.task_id for each in done]
        except NotReplicated as error:
            # They are written, so the rest of the group has to be sent too.
            unreplicated, sent = error, [each.task_id for each in self.tasks]
        for task_id, publish in self._others:
            try:
                publish()
            except Exception as error:
                raise _partly(sent, task_id, error) from error
            sent += [task_id] if task_id else []
        if unreplicated is not None:
            raise unreplicated


def _partly(sent: list[str], unsure: str, error: Exception) -> PartlySubmitted:
    return PartlySubmitted(
        f"the broker took {len(sent)} tasks of a group and no more, agents' tasks first. This "
        "error's `submitted` and `unsure` hold the ids. Revoke them before you send the group "
        f"again, else they run twice. The cause: {error}",
        submitted=sent,
        unsure=[unsure] if unsure else [],
    )


def patch_groups() -> None:
    """Patch Celery's `group` and `chord`, for applications that have a `submitter`. Groups of other
    applications are sent as before.

    Celery has no hook for this: it makes signatures of its own classes, whose method loops over the
    tasks of a group.
    """
    if not hasattr(group._apply_tasks, "sends_whole"):
        group._apply_tasks = _for_groups(group._apply_tasks)
        chord.run = _for_chords(chord.run)


@contextmanager
def _whole(app: Any, producer: Any) -> Iterator[GroupProducer]:
    """Collect the messages that are sent within, and send them at the end."""
    with app.producer_or_acquire(producer) as real:
        collected = GroupProducer(real)
        token = _sent_now.set(collected)
        try:
            yield collected
        finally:
            _sent_now.reset(token)
        collected.send(app.submitter)


def _for_groups(stock: Any) -> Any:
    def _apply_tasks(
        self: Any, tasks: Any, producer: Any = None, app: Any = None, *args: Any, **options: Any
    ) -> Iterable[Any]:
        app = app or self.app
        if not hasattr(app, "submitter"):
            return stock(self, tasks, producer, app, *args, **options)  # type: ignore[no-any-return]
        if group_that_is_sent() is not None:
            # A group within a group belongs to the outer one.
            return stock(self, tasks, None, app, *args, **options)  # type: ignore[no-any-return]
        tasks = list(tasks)
        agents = agent_tasks_of(app.submitter.checks.config)
        if not any(_has_agents(signature, agents) for signature, _, _ in tasks):
            return stock(self, tasks, producer, app, *args, **options)  # type: ignore[no-any-return]
        try:
            with _whole(app, producer) as collected:
                return list(stock(self, tasks, collected, app, *args, **options))
        except Exception as error:
            if not _is_sent_or_redelivered(app, error, agents):
                _fail_unsent(app, [result for _, result, _ in tasks], error)
            raise

    _apply_tasks.sends_whole = True  # type: ignore[attr-defined]
    return _apply_tasks


def _for_chords(stock: Any) -> Any:
    """A chord may send a task beside its header: `celery.chord_unlock`, if the result backend
    cannot count. This task belongs to the whole too."""

    def run(
        self: Any, header: Any, body: Any, partial_args: Any, app: Any = None, **options: Any
    ) -> Any:
        app = app or self._get_app(body)
        is_outermost = hasattr(app, "submitter") and group_that_is_sent() is None
        if not is_outermost or not _has_agents(header, agent_tasks_of(app.submitter.checks.config)):
            return stock(self, header, body, partial_args, app=app, **options)
        with _whole(app, None):
            return stock(self, header, body, partial_args, app=app, **options)

    return run


def _is_sent_or_redelivered(app: Any, error: Exception, agents: Collection[str]) -> bool:
    """Whether a group that raised is sent, or may still be sent: an agent's task that could not
    reach the broker is delivered again, and sends the group then."""
    if isinstance(error, (PartlySubmitted, NotReplicated)):
        return True
    is_unavailable = isinstance(error, UNAVAILABLE_ERRORS) and not isinstance(error, REFUSALS)
    return is_unavailable and getattr(app.current_worker_task, "name", "") in agents


def _fail_unsent(app: Any, results: Iterable[Any], error: Exception) -> None:
    """Store the error as the result of each task that a worker could not send. The caller that
    began the chain waits for these results; Celery itself fails only single tasks and the bodies
    of chords."""
    if not app.current_worker_task:
        return
    for each in results:
        if isinstance(each, GroupResult):
            _fail_unsent(app, each.results, error)
        else:
            app.backend.store_result(each.id, error, FAILURE)


def _has_agents(signature: Any, agents: Collection[str]) -> bool:
    """Whether a signature, or one within it, is of an agent's task."""
    if signature.get("task") in agents:
        return True
    if signature.get("subtask_type") not in ("group", "chain", "chord"):
        return False
    parts = signature.get("kwargs") or {}
    header = parts.get("header") or ()
    within = [*(parts.get("tasks") or ()), *([header] if isinstance(header, dict) else header)]
    within += [parts["body"]] if parts.get("body") else []
    return any(_has_agents(each, agents) for each in within)
