"""Revocations of plain tasks are kept in Redis, where they outlive the workers.

    app.control.revoke, revoke_by_stamped_headers     stored in Redis, then sent to the workers
    a worker receives one, from any application       stored in Redis, then handled as in Celery
    a worker starts, or connects again                reads all stored revocations
    a worker takes a message of Fleet's queues        learns in the same step if it is revoked

Celery keeps a revocation in the memory of each worker that receives it. That is enough if a task
waits for its ETA in the memory of the same worker. Here tasks and retries wait in Redis, and the
worker that takes one may have started after the revocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery, bootsteps
from celery.app import control
from celery.utils.functional import maybe_list
from celery.worker import state
from celery.worker.control import Panel
from kombu.utils.encoding import bytes_to_str

from fleet.errors import FleetError
from fleet.tasks.connection import Connection
from fleet.tasks.revocations_store import parse_stamps
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


class Control(control.Control):
    """An application's control, which stores a revocation before it sends it to the workers."""

    def revoke(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        """As in Celery. Raises `Unavailable`, before any worker hears of it, if it cannot be
        stored."""
        self.app.fleet.tasks.revocations.add(_ids(task_id))
        return super().revoke(task_id, *args, **kwargs)

    def revoke_by_stamped_headers(self, headers: Any, *args: Any, **kwargs: Any) -> Any:
        """As in Celery. Raises `Unavailable`, before any worker hears of it, if it cannot be
        stored."""
        self.app.fleet.tasks.revocations.add_stamps(_headers(headers))
        return super().revoke_by_stamped_headers(headers, *args, **kwargs)


class Revoked:
    """The revocations in Celery's memory, which Celery checks before it runs a task."""

    def __init__(self) -> None:
        #: The position of the newest known revoked stamp, see `fetch.lua`.
        self.stamps_until = "0"

    def note(self, ids: Iterable[bytes | str], stamps: Sequence[bytes | str]) -> None:
        """Add ids, and stamps: each stamp is followed by its position."""
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
    """Have the application's workers store received revocations, and read the stored ones."""

    class KeptRevocations(bootsteps.StartStopStep):
        """Runs before the worker takes its first message, and again after each reconnection."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            _store_received(connection)
            try:
                ids = connection.tasks.revocations.ids()
                stamps = connection.tasks.revocations.stamps()
            except FleetError as error:
                # Messages in Fleet's queues are checked when they are taken.
                log.warning("reading stored revocations failed", error=str(error))
                return
            Revoked().note(ids, [part for row in stamps for part in row])

        def stop(self, consumer: Any) -> None:
            """Nothing to stop."""

        shutdown = stop

    app.steps["consumer"].add(KeptRevocations)


def _store_received(connection: Connection) -> None:
    """Wrap the worker's own commands so that they store first, once in a process."""
    revocations = connection.tasks.revocations
    for name, store in (
        ("revoke", lambda options: revocations.add(_ids(options["task_id"]))),
        ("terminate", lambda options: revocations.add(_ids(options["task_id"]))),
        (
            "revoke_by_stamped_headers",
            lambda options: revocations.add_stamps(_headers(options["headers"])),
        ),
    ):
        if not hasattr(Panel.data[name], "stores"):
            Panel.data[name] = _storing(Panel.data[name], store)


def _storing(command: Any, store: Any) -> Any:
    def store_first(panel_state: Any, **options: Any) -> Any:
        try:
            store(options)
        except FleetError as error:
            log.warning(
                "storing a revocation failed; only workers that run now know it", error=str(error)
            )
        return command(panel_state, **options)

    store_first.stores = True  # type: ignore[attr-defined]
    return store_first


def _ids(task_id: Any) -> list[str]:
    return [str(each) for each in maybe_list(task_id) or ()]


def _headers(headers: Any) -> dict[str, Any]:
    """Values by header; the command line gives them as a list of `header=value`."""
    if isinstance(headers, dict):
        return headers
    found: dict[str, Any] = {}
    for each in headers:
        header, _, value = each.partition("=")
        found.setdefault(header, []).append(value)
    return found
