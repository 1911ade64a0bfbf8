"""Rotates secrets: begins, resumes and finishes rotations, and revokes previous versions.

Before each step the state in Redis says what is about to happen, after it what has happened. So a
rotation that is killed anywhere goes on where it stopped:

    the state says      and the crash came              then the next one
    pending             before the store has a version  creates it, and removes an earlier attempt
    pending             after that                      has its provider accept it (again)
    set                 anywhere                        tests it (again)
    tested              anywhere                        makes it current, in one script
    current, previous   while revoking                  revokes it (again), which changes nothing

Invariant: until the finish every process uses the version that it used. The store's newer version
is pending, and nobody reads it: the state has named the current version before it was written.
Redis holds no value, the store no stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple
from uuid import uuid4

from fleet.errors import (
    FleetError,
    InvalidConfig,
    InvalidRequest,
    RotationFailed,
    SecretConflict,
    SecretNotFound,
)
from fleet.secrets.rotation_store import RotationStore, SetLease, Stored
from fleet.secrets.rotator import Fields, Rotator, Turn
from fleet.secrets.rules.rotation import (
    Holder,
    ProcessReport,
    Rotation,
    Rule,
    Step,
    VersionState,
    advanced,
    begun,
    due_at,
    failed,
    holders,
    known,
    may_revoke,
    next_step,
    revoked,
    to_begin,
    to_resume,
    written_by_hand,
)
from fleet.secrets.store import SecretStore
from fleet.telemetry.logger import get_logger

MARK = "rotation_id"
"""The field of a version that names its rotation, so that a resumed one knows its own work."""
DONE: Mapping[Step, str] = {
    "create": "created", "set": "set at its provider", "test": "tested", "finish": "finished"
}

log = get_logger(__name__)


class RotatedSecret(NamedTuple):
    """How one path is rotated."""

    rule: Rule
    rotator: Rotator


class Who(NamedTuple):
    """Who asks for a rotation or a revocation, and why."""

    by: str
    why: str = ""


DUE = Who("beat", "it was due")
UNUSED = Who("beat", "no process uses it")
OVER = Who("beat", "its grace has ended")

Note = Callable[[str, str, int, Who], object]
"""Writes an act, its path and version to the audit, before it is done."""


@dataclass(frozen=True, slots=True)
class SecretStatus:
    """The rotation of one path as it is now. `due` in seconds since 1970, None if only by hand.
    `generation` is that in which the path got its current version. `held_by` has the live processes
    that hold each previous version.
    """

    rotation: Rotation
    rule: Rule | None
    due: float | None
    generation: int
    held_by: Mapping[int, Sequence[Holder]]


class Rotations:
    """Rotates the configured secrets of one fleet.

    `store` has their values, `state` their stages, `note` writes to the audit. `silence_seconds` is
    how long a live process may be silent. `draw` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        secrets: Mapping[str, RotatedSecret],
        store: SecretStore,
        state: RotationStore,
        note: Note,
        silence_seconds: float,
        draw: Callable[[], float],
    ) -> None:
        self._secrets = secrets
        self._store = store
        self._state = state
        self._note = note
        self._silence_seconds = silence_seconds
        self._draw = draw

    def needs_value(self, path: str) -> bool:
        """Whether a person has to bring the new value of a path now: its rotator makes none, and
        the store has none from an unfinished rotation. Raises `InvalidConfig`."""
        rotation = self._state.read(path).rotation
        return self._rotated(path).rule.by_person and self._pending(rotation) is None

    def rotate(self, path: str, who: Who, brought: Fields | None = None) -> Rotation:
        """Rotate a secret now. `brought` are the fields that a person brings, for rotators that
        need it. Returns when the new version is current; the previous one is revoked later.

        Raises `InvalidRequest` if a rotation of its set is unfinished, `SecretConflict` if another
        process rotates one, `RotationFailed` if a step failed, and the errors of the store.
        """
        rotated = self._rotated(path)
        _check_brought(path, rotated, brought)
        with self._state.lease_of(rotated.rule.set) as lease:
            stored = self._read(lease, path)
            self._check_set(path, rotated.rule.set)
            newest = self._store.versions(path)[-1].version
            begins = begun(stored.rotation, newest, self._state.now(), uuid4().hex)
            begins = replace(begins, by=who.by, why=who.why)
            self._note("rotate", path, newest + 1, who)
            return self._finish(lease, lease.write(stored, begins), brought)

    def resume(self, path: str, brought: Fields | None = None) -> Rotation:
        """Go on with an unfinished rotation. Raises as `rotate`; `InvalidRequest` if there is none.
        """
        rotated = self._rotated(path)
        with self._state.lease_of(rotated.rule.set) as lease:
            stored = self._state.read(path)
            if stored.rotation.unfinished is None:
                raise InvalidRequest(f"{path}: no rotation is unfinished; leave out --resume")
            return self._finish(lease, stored, brought)

    def note_written(self, path: str, version: int, who: Who) -> None:
        """A person has written a version to the store: it becomes the current one of a path that is
        rotated, and every process reads it. Nothing happens to other paths."""
        if path not in self._secrets:
            return
        with self._state.lease_of(self._secrets[path].rule.set) as lease:
            stored, now = self._state.read(path), self._state.now()
            if stored.rotation.version(version) is not None:
                return
            if stored.rotation.current is None:
                following = known(path, version, now, self._draw())
            else:
                following = written_by_hand(stored.rotation, version, now)
            lease.write(stored, replace(following, by=who.by, why=who.why))

    def check_writable(self, path: str) -> None:
        """Raise `InvalidRequest` if a person may not write the secret, since its rotation is
        unfinished. Call it before the store is written, and `note_written` after."""
        begun(self._state.read(path).rotation, 0, 0.0, "")

    def revoke(self, path: str, version: int, who: Who, *, force: bool = False) -> None:
        """Revoke a previous version, or abandon an unfinished rotation.

        Raises `InvalidRequest` for a version that is current, revoked or unknown, or that a live
        process still uses, unless `force`.
        """
        rotated = self._rotated(path)
        with self._state.lease_of(rotated.rule.set) as lease:
            stored = self._state.read(path)
            found = stored.rotation.version(version)
            if found is None or found.stage == "revoked":
                raise InvalidRequest(
                    f"{path}: version {version} is {'revoked' if found else 'unknown'}; `fleet "
                    f"secrets status {path}` lists the others"
                )
            held_by = self._holders(path, found) if found.stage == "previous" else ()
            if held_by and not force:
                raise InvalidRequest(
                    f"{path}: {len(held_by)} processes may still use version {version}, such as "
                    f"{held_by[0].process}; wait for them (`fleet secrets status {path}`), or use "
                    "--force with a reason, which may fail their calls"
                )
            following = revoked(stored.rotation, version, self._state.now())
            self._note("revoke", path, version, who)
            self._end(stored.rotation, version)
            lease.write(stored, replace(following, by=who.by, why=who.why))

    def work(self) -> dict[str, list[str]]:
        """What beat does: resume, begin and revoke what is due. Returns the paths of each. A
        failure of one path does not stop the others."""
        if not self._secrets:
            return {}
        self._learn_paths()
        done: dict[str, list[str]] = {"resumed": [], "rotated": [], "revoked": [], "failed": []}
        rotations, now = self._configured(), self._state.now()
        rules = {path: each.rule for path, each in self._secrets.items()}
        for path in to_resume(rotations, now):
            self._try(path, "resumed", done, partial(self.resume, path))
        for path in to_begin(rotations, rules, now):
            self._try(path, "rotated", done, partial(self.rotate, path, DUE))
        for rotation in self._configured():
            for version, who in self._revocable(rotation):
                act = partial(self.revoke, rotation.path, version, who, force=True)
                self._try(rotation.path, "revoked", done, act)
        return {name: paths for name, paths in done.items() if paths}

    def status(self, path: str = "") -> list[SecretStatus]:
        """The rotation of one path, or of all that are configured or stored, by path. Raises
        `SecretNotFound`."""
        stored = self._state.all()
        paths = sorted({*stored, *self._secrets}) if not path else [path]
        if path and path not in stored and path not in self._secrets:
            raise SecretNotFound(
                f'{path} is not rotated; add [secrets.rotation."{path}"] to fleet.toml'
            )
        reports, generations = self._state.reports(), self._state.current().versions
        return [
            self._status(
                stored.get(each, Rotation(each)),
                reports,
                generations[each].generation if each in generations else 0,
            )
            for each in paths
        ]

    def reports(self) -> list[ProcessReport]:
        """The last report of each live process that reads secrets."""
        found = self._state.reports()
        return [each for each in found if each.age <= self._silence_seconds]

    def _status(
        self, rotation: Rotation, reports: Sequence[ProcessReport], generation: int
    ) -> SecretStatus:
        rotated = self._secrets.get(rotation.path)
        held_by = {
            each.version: holders(
                rotation.path, each.version, generation, reports, self._silence_seconds
            )
            for each in rotation.previous
        }
        rule = rotated.rule if rotated else None
        due = due_at(rotation, rule) if rule else None
        return SecretStatus(rotation, rule, due, generation, held_by)

    def _rotated(self, path: str) -> RotatedSecret:
        if path not in self._secrets:
            raise InvalidConfig(
                f'{path} has no rotator; add [secrets.rotation."{path}"] to fleet.toml, with '
                "rotator"
            )
        return self._secrets[path]

    def _configured(self) -> list[Rotation]:
        return [each for path, each in self._state.all().items() if path in self._secrets]

    def _learn_paths(self) -> None:
        """Store the current version of each path that no rotation knows yet."""
        stored = self._state.all()
        for path, rotated in self._secrets.items():
            if path not in stored:
                try:
                    with self._state.lease_of(rotated.rule.set) as lease:
                        self._read(lease, path)
                except FleetError as error:
                    log.warning("a secret cannot be rotated yet", path=path, error=str(error))

    def _read(self, lease: SetLease, path: str) -> Stored:
        """The rotation of a path. The first time, the newest version in the store is current."""
        stored = self._state.read(path)
        if stored.rotation.current is not None:
            return stored
        secret = self._store.read(path)
        return lease.write(stored, known(path, secret.version, secret.epoch, self._draw()))

    def _check_set(self, path: str, name: str) -> None:
        for each in self._configured():
            is_other = each.path != path and self._secrets[each.path].rule.set == name
            if is_other and each.unfinished:
                raise InvalidRequest(
                    f"{path}: the rotation of {each.path}, of the same set, is unfinished; run "
                    f"`fleet secrets rotate {each.path} --resume` first"
                )

    def _finish(self, lease: SetLease, stored: Stored, brought: Fields | None) -> Rotation:
        """Do the steps that are left. A failure is stored, and told."""
        while True:
            rotation, step = stored.rotation, next_step(stored.rotation, is_written=False)
            if step is None:
                return rotation
            lease.renew()
            try:
                new = self._pending(rotation)
                step = next_step(rotation, new is not None) or step
                self._do(step, rotation, new, brought)
            except Exception as error:
                self._tell(lease, stored, step, error)
            if step != "create":
                share = self._draw() if step == "finish" else 0.0
                stored = lease.write(stored, advanced(rotation, self._state.now(), share))

    def _do(
        self, step: Step, rotation: Rotation, new: Fields | None, brought: Fields | None
    ) -> None:
        unfinished, current = rotation.unfinished, rotation.current
        assert unfinished is not None and current is not None
        if step == "finish":
            return
        rotator = self._rotated(rotation.path).rotator
        old = self._store.read(rotation.path, current.version).fields
        turn = Turn(rotation.path, unfinished.version, rotation.id, old)
        if step == "create":
            if rotator.by_person and not brought:
                raise InvalidRequest(
                    "a person has to bring the new value: run `fleet secrets rotate "
                    f"{rotation.path} --resume`"
                )
            fields = brought if rotator.by_person and brought else rotator.create(turn)
            # Fields that the rotator does not make stay as they are.
            marked = {**old, **fields, MARK: rotation.id}
            self._store.write(rotation.path, marked, unfinished.version - 1)
        elif step == "set":
            rotator.set(turn, _given(new))
        else:
            rotator.test(turn, _given(new))

    def _pending(self, rotation: Rotation) -> Fields | None:
        """The fields of the unfinished version, if this rotation has written it. Raises
        `SecretConflict` if somebody else has."""
        if rotation.unfinished is None:
            return None
        try:
            found = self._store.read(rotation.path, rotation.unfinished.version).fields
        except SecretNotFound:
            return None
        if found.get(MARK) != rotation.id:
            raise SecretConflict(
                f"{rotation.path}: somebody else wrote version {rotation.unfinished.version} in "
                "the meantime; abandon the rotation: `fleet secrets revoke "
                f"{rotation.path} {rotation.unfinished.version}`"
            )
        return found

    def _tell(self, lease: SetLease, stored: Stored, step: Step, error: Exception) -> None:
        """Store that a step failed, and raise `RotationFailed`. The text of an error that is not
        Fleet's may hold anything, so its class is told alone."""
        rotation = stored.rotation
        reason = str(error) if isinstance(error, FleetError) else type(error).__name__
        assert rotation.unfinished is not None and rotation.current is not None
        noted = failed(rotation, self._state.now(), f"{step}: {reason}")
        lease.write(stored, noted)
        raise RotationFailed(
            f"{rotation.path}: version {rotation.unfinished.version} could not be {DONE[step]}: "
            f"{reason}. Version {rotation.current.version} stays current. Beat tries again, or run "
            f"`fleet secrets rotate {rotation.path} --resume`",
            retry_after=noted.retry_at - self._state.now(),
        ) from (error if isinstance(error, FleetError) else None)

    def _holders(self, path: str, previous: VersionState) -> tuple[Holder, ...]:
        current = self._state.current().versions[path]
        reports = self._state.reports()
        return holders(
            path, previous.version, current.generation, reports, self._silence_seconds
        )

    def _revocable(self, rotation: Rotation) -> Iterator[tuple[int, Who]]:
        """The versions that may be revoked, and why."""
        rule, now = self._secrets[rotation.path].rule, self._state.now()
        for each in rotation.previous:
            held_by = self._holders(rotation.path, each)
            if may_revoke(each, rule, held_by, now):
                yield each.version, OVER if held_by else UNUSED

    def _end(self, rotation: Rotation, version: int) -> None:
        """Have the provider refuse a version, and destroy its values. Can be repeated."""
        try:
            fields = self._store.read(rotation.path, version).fields
        except SecretNotFound:
            # It was never written, or an earlier attempt has revoked and destroyed it.
            fields = None
        unfinished = rotation.unfinished
        if fields is not None and unfinished and unfinished.version == version:
            # Somebody else's version is left alone.
            fields = fields if fields.get(MARK) == rotation.id else None
        if fields is not None:
            self._rotated(rotation.path).rotator.revoke(fields)
            self._store.destroy(rotation.path, version)

    def _try(
        self, path: str, what: str, done: dict[str, list[str]], act: Callable[[], object]
    ) -> None:
        try:
            act()
        except FleetError as error:
            done["failed"].append(path)
            log.warning("a rotation did not go on", path=path, error=str(error))
        except Exception as error:
            # A rotator of another package. Its error may hold anything.
            done["failed"].append(path)
            log.warning("a rotation did not go on", path=path, error=type(error).__name__)
        else:
            done[what].append(path)
            log.info("a rotation went on", path=path, what=what)


def _check_brought(path: str, rotated: RotatedSecret, brought: Fields | None) -> None:
    if rotated.rule.by_person and not brought:
        raise InvalidRequest(f"{path}: its rotator makes no values; bring the new one")
    if brought and not rotated.rule.by_person:
        raise InvalidRequest(
            f"{path}: its rotator makes the new value; leave out --stdin and --file"
        )


def _given(new: Fields | None) -> Fields:
    assert new is not None
    return new
