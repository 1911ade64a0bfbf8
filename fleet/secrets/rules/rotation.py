"""The rotation of a secret as values: its stages, its steps, when it is due, what may be revoked.

A version passes through these stages:

    pending   it is written to the store, and no process uses it
    set       its provider accepts it
    tested    a real call with it has succeeded
    current   every process uses it
    previous  no use of it begins any more, and uses of it may still run
    revoked   its provider refuses it, and its values are gone

A failure before `current` changes nothing for the processes: they use the version that they used.
An unfinished rotation blocks the next one of its path until it is resumed or abandoned.

No use of a version may meet its revocation. So a previous version is revoked only when every live
process has acknowledged the version after it and reports no use of it, or when its grace has ended.
A process acknowledges a generation: the number of changes of current versions that it has seen and
obeys. It chooses the version of a use and counts the use in one moment, and reports both together.
So if it reports a generation and no use of an older version, no such use can follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from fleet.errors import InvalidRequest

Stage = Literal["pending", "set", "tested", "current", "previous", "revoked"]
Step = Literal["create", "set", "test", "finish"]

UNFINISHED: tuple[Stage, ...] = ("pending", "set", "tested")
AFTER: Mapping[Stage, Stage] = {"pending": "set", "set": "tested", "tested": "current"}
"""The stage that follows each unfinished one."""
JITTER = 0.1
"""A secret is due up to this share of its interval early, so that those of one day spread out."""
RETRY_SECONDS = 60.0
"""Until the first retry of a failed step. Each further failure doubles it."""
MAX_RETRY_SECONDS = 3600.0
KEPT_REVOKED = 5
"""Revoked versions that are still shown."""


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version: its number, its stage, and since when, in seconds since 1970."""

    version: int
    stage: Stage
    since: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """The versions of one path by number, and the rotation that is under way.

    `id` names the unfinished rotation, '' without one; the store's fields of its version carry it.
    `by` and `why` say who asked for the last one. `failures` counts failed steps in a row,
    `failure` describes the last, and beat tries again at `retry_at`. `share`, 0 to 1, is the drawn
    part of the jitter by which the next rotation comes early.
    """

    path: str
    versions: tuple[VersionState, ...] = ()
    id: str = ""
    by: str = ""
    why: str = ""
    failures: int = 0
    failure: str = ""
    retry_at: float = 0.0
    share: float = 0.0

    @property
    def current(self) -> VersionState | None:
        """The version in use; None before the path is known."""
        return self._first("current")

    @property
    def unfinished(self) -> VersionState | None:
        """The version of the rotation under way."""
        return self._first(*UNFINISHED)

    @property
    def previous(self) -> tuple[VersionState, ...]:
        """The versions that wait for their revocation."""
        return tuple(each for each in self.versions if each.stage == "previous")

    def _first(self, *stages: Stage) -> VersionState | None:
        return next((each for each in self.versions if each.stage in stages), None)

    def version(self, number: int) -> VersionState | None:
        """A version by its number."""
        return next((each for each in self.versions if each.version == number), None)


def known(path: str, version: int, now: float, share: float = 0.0) -> Rotation:
    """A path whose version in the store is the current one."""
    return Rotation(path, (VersionState(version, "current", now),), share=share)


def begun(rotation: Rotation, newest: int, now: float, rotation_id: str) -> Rotation:
    """The start of a rotation to version `newest` + 1, where `newest` is the store's newest.

    Raises `InvalidRequest` if one is unfinished.
    """
    if rotation.unfinished:
        raise InvalidRequest(
            f"{rotation.path}: the rotation to version {rotation.unfinished.version} is unfinished "
            f"({rotation.unfinished.stage}); run `fleet secrets rotate {rotation.path} --resume`, "
            f"or abandon it: `fleet secrets revoke {rotation.path} {rotation.unfinished.version}`"
        )
    pending = VersionState(newest + 1, "pending", now)
    return replace(_cleared(rotation), versions=(*rotation.versions, pending), id=rotation_id)


def next_step(rotation: Rotation, is_written: bool) -> Step | None:
    """The step to do now; None if no rotation is under way. `is_written`: the store has the pending
    version."""
    if rotation.unfinished is None:
        return None
    if rotation.unfinished.stage == "pending":
        return "set" if is_written else "create"
    return "test" if rotation.unfinished.stage == "set" else "finish"


def advanced(rotation: Rotation, now: float, share: float = 0.0) -> Rotation:
    """The rotation after the step of its stage succeeded. At the finish the current version becomes
    previous, and `share` is kept for the next rotation."""
    unfinished = rotation.unfinished
    assert unfinished is not None
    after = AFTER[unfinished.stage]
    moved = _cleared(_moved(rotation, unfinished.version, after, now))
    if after != "current":
        return moved
    if rotation.current:
        moved = _moved(moved, rotation.current.version, "previous", now)
    return replace(moved, id="", share=share)


def written_by_hand(rotation: Rotation, version: int, now: float) -> Rotation:
    """A person wrote this version to the store: it is current at once. Raises `InvalidRequest` if a
    rotation is unfinished, whose version it may have overtaken."""
    pending = begun(rotation, version - 1, now, "by hand")
    for _ in UNFINISHED:
        pending = advanced(pending, now, rotation.share)
    return pending


def failed(rotation: Rotation, now: float, failure: str) -> Rotation:
    """The rotation after a failed step. Its stage stays."""
    wait = min(RETRY_SECONDS * 2.0 ** min(rotation.failures, 16), MAX_RETRY_SECONDS)
    return replace(
        rotation, failures=rotation.failures + 1, failure=failure, retry_at=now + wait
    )


def revoked(rotation: Rotation, version: int, now: float) -> Rotation:
    """The rotation after a version was revoked. If that was the unfinished one, it is abandoned.

    Raises `InvalidRequest` for the current version.
    """
    if rotation.current and rotation.current.version == version:
        raise InvalidRequest(
            f"{rotation.path}: version {version} is current; run `fleet secrets rotate "
            f"{rotation.path}` first"
        )
    ends = rotation.unfinished is not None and rotation.unfinished.version == version
    moved = _moved(rotation, version, "revoked", now)
    gone = [each.version for each in moved.versions if each.stage == "revoked"]
    kept = tuple(
        each
        for each in moved.versions
        if each.stage != "revoked" or each.version in gone[-KEPT_REVOKED:]
    )
    return replace(_cleared(moved) if ends else moved, versions=kept, id="" if ends else moved.id)


def _moved(rotation: Rotation, version: int, stage: Stage, now: float) -> Rotation:
    moved = tuple(
        VersionState(version, stage, now) if each.version == version else each
        for each in rotation.versions
    )
    return replace(rotation, versions=moved)


def _cleared(rotation: Rotation) -> Rotation:
    return replace(rotation, failures=0, failure="", retry_at=0.0)


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What one process reported last: `age` seconds ago, which generation it obeys, the version of
    each path that it serves from memory, and its uses in progress by path and version."""

    process: str
    agent: str
    age: float
    generation: int
    loaded: Mapping[str, int]
    in_use: Mapping[tuple[str, int], int]


class Holder(NamedTuple):
    """A live process for which a version is not revoked, and why: it has not acknowledged the
    version after it, it still serves it from memory, or so many uses of it are in progress."""

    process: str
    acknowledged: bool
    serves: bool
    uses: int


def holders(
    path: str,
    version: int,
    generation: int,
    reports: Iterable[ProcessReport],
    silence_seconds: float,
) -> tuple[Holder, ...]:
    """The live processes that may still use a previous version.

    `generation` is that in which the path got its current version. A process that was silent for
    longer than `silence_seconds` is dead: its runs have lost their leases by then.
    """
    found = []
    for each in reports:
        if each.age > silence_seconds:
            continue
        acknowledged = each.generation >= generation
        serves = each.loaded.get(path) == version
        uses = each.in_use.get((path, version), 0)
        if not acknowledged or serves or uses:
            found.append(Holder(each.process, acknowledged, serves, uses))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Rule:
    """When a path is rotated and its previous version revoked. Times in seconds; `every` None: only
    by hand. `set`: of the paths with the same one, one is rotated at a time. `waits_for_grace`: no
    previous version is revoked before its grace has ended. `by_person`: a person brings each new
    value, so beat cannot begin."""

    set: str
    every: float | None
    grace: float
    waits_for_grace: bool = False
    by_person: bool = False


def may_revoke(
    previous: VersionState, rule: Rule, held_by: Iterable[Holder], now: float
) -> bool:
    """Whether a previous version may be revoked: nobody holds it, or its grace has ended."""
    if now - previous.since >= rule.grace:
        return True
    return not rule.waits_for_grace and not any(held_by)


def due_at(rotation: Rotation, rule: Rule) -> float | None:
    """When the next rotation is due, in seconds since 1970; None if only by hand."""
    if rule.every is None or rotation.current is None:
        return None
    return rotation.current.since + rule.every * (1 - JITTER * rotation.share)


def to_resume(rotations: Iterable[Rotation], now: float) -> list[str]:
    """The paths whose unfinished rotation is tried again now."""
    return sorted(
        each.path for each in rotations if each.unfinished and now >= each.retry_at
    )


def to_begin(
    rotations: Iterable[Rotation], rules: Mapping[str, Rule], now: float
) -> list[str]:
    """The paths to rotate now, the most overdue first: at most one of each set, and none of a set
    in which a rotation is unfinished."""
    found = list(rotations)
    taken = {rules[each.path].set for each in found if each.unfinished and each.path in rules}
    late = []
    for each in found:
        rule = rules.get(each.path)
        if rule is None or rule.by_person or each.unfinished:
            continue
        due = due_at(each, rule)
        if due is not None and now >= due:
            late.append((due, each.path))
    chosen = []
    for _, path in sorted(late):
        if rules[path].set not in taken:
            taken.add(rules[path].set)
            chosen.append(path)
    return chosen
