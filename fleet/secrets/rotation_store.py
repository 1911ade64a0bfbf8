"""Rotations in Redis: paths, versions, stages, times and persons. No value of a secret is here.

Each process that reads secrets reports which versions it has and uses, see
`fleet.secrets.current`. The report is its acknowledgement and its sign of life.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import NamedTuple
from uuid import uuid4

from fleet.errors import SecretConflict
from fleet.redis.client import redis_errors
from fleet.redis.lease import Lease
from fleet.redis.scripts import text
from fleet.redis.store import Store
from fleet.secrets.rules.rotation import ProcessReport, Rotation, VersionState
from fleet.secrets.secrets import SecretUsage

GENERATION = ":generation"
"""The field of the generation, which is no path."""
LEASE_SECONDS = 60
"""Who rotates a secret of a set holds its lease, and renews it before each step. A step makes a few
calls of at most ten seconds each."""
FORGET_SECONDS = 3600
"""A silent process is shown for an hour."""


class Current(NamedTuple):
    """The current version of a path, and the generation in which it became current."""

    version: int
    generation: int


class CurrentVersions(NamedTuple):
    """All current versions in a generation."""

    generation: int
    versions: Mapping[str, Current]


class Stored(NamedTuple):
    """A rotation, and its text in Redis; '' if nothing is stored."""

    rotation: Rotation
    text: str


class RotationStore(Store):
    """Reads and writes rotations. Every method is one call to Redis unless its docstring says more.
    """

    def now(self) -> float:
        """Seconds since 1970 by Redis's clock."""
        return self.now_us() / 1e6

    def read(self, path: str) -> Stored:
        """The rotation of a path; one without versions if nothing is stored."""
        with redis_errors(self.client):
            found = self.client.hget(self.keys.rotations, path)
        return Stored(_rotation(text(found)), text(found)) if found else Stored(Rotation(path), "")

    def all(self) -> dict[str, Rotation]:
        """The stored rotations by path."""
        with redis_errors(self.client):
            found = self.client.hgetall(self.keys.rotations)
        return {text(path): _rotation(text(state)) for path, state in found.items()}

    def current(self) -> CurrentVersions:
        """The current versions."""
        with redis_errors(self.client):
            return _current(self.client.hgetall(self.keys.secrets))

    def acknowledge(
        self, process: str, agent: str, generation: int, usage: SecretUsage
    ) -> CurrentVersions | None:
        """Report what a process has and uses while it obeys a generation. Returns the current
        versions if there is a newer one."""
        in_use = [[path, version, uses] for (path, version), uses in usage.in_use.items()]
        report = json.dumps({"agent": agent, "loaded": dict(usage.loaded), "in_use": in_use})
        keys = [self.keys.secrets, self.keys.secret_processes]
        with redis_errors(self.client):
            found = self.scripts.acknowledge(keys=keys, args=[process, generation, report])
        newest, *fields = map(text, found)
        if int(newest) == generation:
            return None
        return _current(dict(zip(fields[::2], fields[1::2], strict=True)))

    def reports(self) -> list[ProcessReport]:
        """The last report of each process, silent ones included."""
        keys = [self.keys.secret_processes]
        with redis_errors(self.client):
            found = self.scripts.secret_processes(keys=keys, args=[FORGET_SECONDS * 1000])
        now_ms, *fields = map(text, found)
        pairs = zip(fields[::2], fields[1::2], strict=True)
        return [_report(process, report, int(now_ms)) for process, report in sorted(pairs)]

    @contextmanager
    def lease_of(self, name: str) -> Iterator[SetLease]:
        """Be the only one who rotates secrets of a set, until the end of the block. Raises
        `SecretConflict`. Two calls."""
        key = self.keys.secret_set(name)
        held = Lease(self.client, self.scripts, key, uuid4().hex, LEASE_SECONDS)
        lease = SetLease(self, name, held)
        lease.renew()
        try:
            yield lease
        finally:
            held.release()


class SetLease:
    """The lease of a set, and the writes that need it."""

    def __init__(self, store: RotationStore, name: str, lease: Lease) -> None:
        self._store = store
        self._name = name
        self._lease = lease

    def renew(self) -> None:
        """Take or renew the lease. Raises `SecretConflict`."""
        if not self._lease.hold():
            raise SecretConflict(
                f"another process rotates a secret of the set {self._name} now; try again when it "
                f"has ended, after {LEASE_SECONDS} s at the latest",
                retry_after=LEASE_SECONDS,
            )

    def write(self, known: Stored, rotation: Rotation) -> Stored:
        """Write the state that follows a read one. Raises `SecretConflict` if the lease is lost, or
        if somebody else wrote."""
        keys = [self._store.keys.rotations, self._store.keys.secrets, self._lease.key]
        following = json.dumps(asdict(rotation))
        version = rotation.current.version if rotation.current else ""
        args = [self._lease.owner, rotation.path, known.text, following, version]
        with redis_errors(self._store.client):
            answer = text(self._store.scripts.rotate(keys=keys, args=args))
        if answer != "written":
            raise SecretConflict(
                f"{rotation.path}: another process has rotated it meanwhile; look at `fleet "
                f"secrets status {rotation.path}`"
            )
        return Stored(rotation, following)


def _rotation(state: str) -> Rotation:
    found = json.loads(state)
    versions = tuple(VersionState(**each) for each in found.pop("versions"))
    return Rotation(versions=versions, **found)


def _current(fields: Mapping[bytes | str, bytes | str]) -> CurrentVersions:
    found = {text(name): text(value) for name, value in fields.items()}
    generation = int(found.pop(GENERATION, "0"))
    versions = {path: Current(*map(int, value.split())) for path, value in found.items()}
    return CurrentVersions(generation, versions)


def _report(process: str, report: str, now_ms: int) -> ProcessReport:
    at_ms, generation, rest = report.split(" ", 2)
    found = json.loads(rest)
    return ProcessReport(
        process=process,
        agent=found["agent"],
        age=max(0.0, (now_ms - int(at_ms)) / 1000),
        generation=int(generation),
        loaded=found["loaded"],
        in_use={(path, version): uses for path, version, uses in found["in_use"]},
    )
