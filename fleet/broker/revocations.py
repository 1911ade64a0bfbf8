"""Revocations of plain tasks that outlive the worker that heard of them.

    app.control.revoke, revoke_by_stamped_headers     kept in Redis, then told to the workers
    a worker hears of one, from whichever application kept in Redis, then done as in Celery
    a worker starts, or connects again                learns all that is kept
    a worker takes a message of Fleet's queues        is told in the same step whether it is revoked

Celery keeps a revocation in the memory of each worker that hears it. That is enough where a task
waits for its time in the memory of the same worker. Here it waits in Redis, a retry as well, and
the worker that takes it may have started since.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.app import control
from celery.utils.functional import maybe_list
from celery.worker import state
from celery.worker.control import Panel
from kombu.utils.encoding import bytes_to_str

from fleet.errors import FleetError
from fleet.tasks.connection import Connection
from fleet.tasks.revocations_store import parse_stamps

log = structlog.get_logger(__name__)


class Control(control.Control):
    """The control of an application, which keeps what it revokes before it tells the workers."""

    def revoke(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        """As of Celery. Raises `Unavailable` where it cannot be kept; no worker is told then."""
        self.app.fleet.tasks.revocations.add(_ids(task_id))
        return super().revoke(task_id, *args, **kwargs)

    def revoke_by_stamped_headers(self, headers: Any, *args: Any, **kwargs: Any) -> Any:
        """As of Celery. Raises `Unavailable` where it cannot be kept; no worker is told then."""
        self.app.fleet.tasks.revocations.add_stamps(_headers(headers))
        return super().revoke_by_stamped_headers(headers, *args, **kwargs)


class Revoked:
    """What a worker knows to be revoked: Celery's memory of it, which Celery asks before a run."""

    def __init__(self) -> None:
        #: The place of the newest revoked stamp that is known, see `fetch.lua`.
        self.stamps_until = "0"

    def note(self, ids: Iterable[bytes | str], stamps: Sequence[bytes | str]) -> None:
        """Take ids, and stamps with their places one after the other."""
        state.merge_revoked([bytes_to_str(each) for each in ids])
        if not stamps:
            return
        texts = [bytes_to_str(each) for each in stamps]
        for header, value in parse_stamps(texts[::2]):
            known = maybe_list(state.revoked_stamps.get(header)) or []
            if value not in known:
                state.revoked_stamps[header] = [*known, value]
        self.stamps_until = texts[-1]


def add_kept_revocations(app: Celery, connection: Connection) -> None:
    """Let the application's workers keep what they hear to be revoked, and learn what is kept."""

    class KeptRevocations(bootsteps.StartStopStep):
        """Starts before the first message is taken, and again with each connection."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            _keep_what_is_heard(connection)
            try:
                ids = connection.tasks.revocations.ids()
                stamps = connection.tasks.revocations.stamps()
            except FleetError as error:
                # What is in Fleet's queues is looked up when it is taken.
                log.warning("what was revoked before could not be read", error=str(error))
                return
            Revoked().note(ids, [part for row in stamps for part in row])

        def stop(self, consumer: Any) -> None:
            """Nothing to stop."""

        shutdown = stop

    app.steps["consumer"].add(KeptRevocations)


def _keep_what_is_heard(connection: Connection) -> None:
    """Put the keeping before the worker's own commands, once in a process."""
    for name, keep in (
        ("revoke", lambda said: connection.tasks.revocations.add(_ids(said["task_id"]))),
        ("terminate", lambda said: connection.tasks.revocations.add(_ids(said["task_id"]))),
        (
            "revoke_by_stamped_headers",
            lambda said: connection.tasks.revocations.add_stamps(_headers(said["headers"])),
        ),
    ):
        if not hasattr(Panel.data[name], "keeps"):
            Panel.data[name] = _kept(Panel.data[name], keep)


def _kept(command: Any, keep: Any) -> Any:
    def kept(panel_state: Any, **said: Any) -> Any:
        try:
            keep(said)
        except FleetError as error:
            log.warning("a revocation is known to the workers that run now alone", error=str(error))
        return command(panel_state, **said)

    kept.keeps = True  # type: ignore[attr-defined]
    return kept


def _ids(task_id: Any) -> list[str]:
    return [str(each) for each in maybe_list(task_id) or ()]


def _headers(headers: Any) -> dict[str, Any]:
    """Values by header, also where they were told as `header=value`, one by one."""
    if isinstance(headers, dict):
        return headers
    found: dict[str, Any] = {}
    for each in headers:
        header, _, value = each.partition("=")
        found.setdefault(header, []).append(value)
    return found
