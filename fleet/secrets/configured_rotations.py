"""The rotations that fleet.toml asks for."""

from __future__ import annotations

import random
from functools import partial

from fleet.audit.log import AuditLog
from fleet.audit.origin import origin_here
from fleet.errors import InvalidConfig
from fleet.secrets.rotation import RotatedSecret, Rotations, Who
from fleet.secrets.rotation_store import RotationStore
from fleet.secrets.rotator import Fields, installed_rotators, make_rotator
from fleet.secrets.rules.rotation import Rule
from fleet.secrets.secrets import Secrets
from fleet.settings import Settings
from fleet.settings.rotation import DAY, SecretRotation
from fleet.text import unknown

GRACE_SECONDS = 60.0
"""The default grace is the time limit of a task and so much more: a task that ends by its limit
still writes its outcome."""


def rotations_of(
    settings: Settings, state: RotationStore, secrets: Secrets, audit: AuditLog
) -> Rotations:
    """The rotations of a fleet. Sends nothing yet.

    Raises `InvalidConfig` for a rotator that is not installed, and for options that it refuses.
    """
    known, rotated = installed_rotators(), {}

    def read(path: str) -> Fields:
        return secrets.read(path).fields

    for path, asked in settings.config.secrets.rotation.items():
        if asked.rotator not in known:
            sentence = unknown("rotator", asked.rotator, known)
            raise InvalidConfig(f'{settings.source}: secrets.rotation."{path}": {sentence}')
        rotator = make_rotator(known[asked.rotator], path, asked.options, read)
        rule = _rule(settings, path, asked, rotator.by_person)
        rotated[path] = RotatedSecret(rule, rotator)
    leases = settings.config.leases
    # A run ends with its lease, and a worker that is silent for longer is dead.
    silence = max(leases.dead_after_seconds, leases.lease_seconds)
    note = partial(_note, audit)
    return Rotations(rotated, secrets.writable, state, note, silence, random.random)


def _note(audit: AuditLog, what: str, path: str, version: int, who: Who) -> None:
    audit.act(what, path, version, origin_here(who.by), who.why)


def _rule(settings: Settings, path: str, asked: SecretRotation, by_person: bool) -> Rule:
    grace = asked.grace_seconds
    return Rule(
        set=asked.set_of(path),
        every=None if asked.every_days is None else asked.every_days * DAY,
        grace=settings.config.limits.task_seconds + GRACE_SECONDS if grace is None else grace,
        waits_for_grace=asked.revoke == "grace",
        by_person=by_person,
    )
