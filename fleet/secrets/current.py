"""Follows the current versions of secrets in one process, and acknowledges them.

A process announces itself before it first reads a secret. From then on a thread reports, as often
as an agent's heartbeat, which versions the process has and uses, in one call that also answers
whether other versions are current. Then the process reads the new versions, serves them from that
moment on, and acknowledges them. No message has to be delivered: the next report finds a rotation.

The reports are the process's sign of life too. A process that cannot report starts no new run: its
leases end, and its runs are stopped before another process counts it as dead.
"""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Collection
from threading import RLock, Thread
from uuid import uuid4

from fleet.hooks import weakly
from fleet.secrets.rotation_store import CurrentVersions, RotationStore
from fleet.secrets.secrets import Secrets
from fleet.telemetry.logger import get_logger

log = get_logger(__name__)


class CurrentSecrets:
    """The current versions of secrets, as one process knows and obeys them. Threads may share it.

    `paths` are rotated; of others the newest version is current, and nothing is reported. `agent`
    is the id of the process's agent, '' if it is none. `seconds` is the time between two
    reports; with None it only reports when `look` is called. A forked child announces itself anew.
    """

    def __init__(
        self, store: RotationStore, paths: Collection[str], agent: str, seconds: float | None
    ) -> None:
        self._store = store
        self._paths = paths
        self._agent = agent
        self._seconds = seconds
        self._secrets: weakref.ref[Secrets] | None = None
        self._begin()
        os.register_at_fork(after_in_child=weakly(self._begin))

    def _begin(self) -> None:
        self._guard = RLock()
        self._process = ""
        self._known = CurrentVersions(0, {})
        #: The generation that every use obeys which begins from now on.
        self._obeyed = 0

    def serve(self, secrets: Secrets) -> None:
        """Report of these secrets, which ask `version`."""
        self._secrets = weakref.ref(secrets)

    def version(self, path: str) -> int | None:
        """The current version of a path, None if no rotation knows it. The first call for a path
        that is rotated announces the process. Raises `Unavailable`."""
        if path not in self._paths:
            return None
        if not self._process:
            self._announce()
        known = self._known.versions.get(path)
        if known is None:
            # It may be known by now, and its newest version pending: ask.
            self.look()
            known = self._known.versions.get(path)
        return known.version if known else None

    def look(self) -> None:
        """Report once, and obey other versions if there are any. Raises `Unavailable`."""
        with self._guard:
            secrets = self._secrets() if self._secrets else None
            if secrets is None:
                return
            versions = self._versions()
            loaded = secrets.usage().loaded
            if any(versions.get(path, version) != version for path, version in loaded.items()):
                # A new version could not be read last time.
                secrets.adopt(versions)
            while newer := self._store.acknowledge(
                self._process, self._agent, self._obeyed, secrets.usage()
            ):
                self._known = newer
                secrets.adopt(self._versions())
                self._obeyed = newer.generation

    def _versions(self) -> dict[str, int]:
        return {path: each.version for path, each in self._known.versions.items()}

    def _announce(self) -> None:
        with self._guard:
            if self._process:
                return
            # Two containers may share a host's name and a process id.
            self._process = f"{os.getpid()}@{socket.gethostname()}-{uuid4().hex[:8]}"
            try:
                self.look()
            except BaseException:
                self._process = ""
                raise
            if self._seconds is not None:
                own = weakref.ref(self)
                arguments = (own, self._seconds)
                Thread(None, _report, "secret-reports", arguments, daemon=True).start()


def _report(kept: weakref.ref[CurrentSecrets], seconds: float) -> None:
    """Report until the process forgets its secrets. Logs the first error of a streak."""
    has_failed = False
    while True:
        time.sleep(seconds)
        current = kept()
        if current is None:
            return
        try:
            current.look()
        except Exception as error:
            if not has_failed:
                log.warning("reporting versions of secrets failed, continuing", error=repr(error))
            has_failed = True
        else:
            has_failed = False
        del current
