"""Rotations that are killed at a step, by SIGKILL in a process of their own, and resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from fake_key_service import ADMIN_KEY, FakeKeyService

from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.secrets.rotation import RotatedSecret, Rotations, Who
from fleet.secrets.rotation_store import RotationStore, SetLease
from fleet.secrets.rotator import installed_rotators, make_rotator
from fleet.secrets.rules.rotation import Rotation, Rule
from fleet.secrets.store import SecretStore

PATH = "providers/acme"
SET = "providers"
KEYS = Keys("{fleet}")
POINTS = (
    *("note rotate", "state pending", "create", "write", "set", "state set", "test"),
    *("state tested", "state current", "note revoke", "revoke", "destroy", "state revoked"),
)
"""Everything that a rotation and its revocation do, in this order. It is killed after one of them.
"""
ME = Who("tester", "a test")


@dataclass
class Rotated:
    """A secret of the fake service's, in a store that `make_store` opens anew in each process."""

    service: FakeKeyService
    redis_url: str
    make_store: Callable[[], SecretStore]

    def begin(self) -> None:
        """The service has one key, and the store has it as version 1."""
        key = self.service.make_key("by hand")
        self.make_store().write(PATH, {"api_key": key.value, "key_id": key.id}, 0)

    def rotations(self) -> tuple[Rotations, RotationStore]:
        """Rotates the secret, with connections of its own."""
        client = redis.Redis.from_url(self.redis_url)
        state = RotationStore(client, KEYS, Scripts(client))
        url, admin = self.service.url, {"Authorization": "Bearer {admin.api_key}"}
        options = {
            "create": {
                "url": f"{url}/keys",
                "headers": admin,
                "body": {"name": "{id}"},
                "answer": {"api_key": "key.value", "key_id": "key.id"},
            },
            "test": {
                "method": "GET",
                "url": f"{url}/whoami",
                "headers": {"Authorization": "Bearer {new.api_key}"},
            },
            "revoke": {"method": "DELETE", "url": f"{url}/keys/{{old.key_id}}", "headers": admin},
            "admin": "admin/acme",
        }
        factory = installed_rotators()["http"]
        rotator = make_rotator(factory, PATH, options, lambda path: {"api_key": ADMIN_KEY})
        secret = RotatedSecret(Rule(SET, None, grace=1e9), rotator)
        store = self.make_store()
        return Rotations({PATH: secret}, store, state, _no_audit, 30.0, lambda: 0.0), state

    def kill_after(self, point: str) -> bool:
        """Rotate and revoke in a process that is killed after `point`. Whether it was."""
        child = os.fork()
        if not child:
            try:
                rotations, _ = self.rotations()
                _kill_after(point, rotations)
                rotations.rotate(PATH, ME)
                rotations.work()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def resume(self) -> Rotation:
        """Let the lease of the dead process end, and beat work twice. Returns the outcome."""
        rotations, state = self.rotations()
        state.client.delete(KEYS.secret_set(SET))
        rotations.work()
        rotations.work()
        return state.read(PATH).rotation

    def current_value(self) -> str:
        """The value that a process reads now."""
        _, state = self.rotations()
        current = state.current().versions.get(PATH)
        return self.make_store().read(PATH, current.version if current else None).fields["api_key"]


def check_killed_rotation(rotated: Rotated, point: str) -> None:
    """Kill a rotation at a point, check that a valid version is current all the time, and resume.
    """
    rotated.begin()
    assert rotated.kill_after(point), f"the rotation has no point {point}"
    assert rotated.current_value() in rotated.service.accepted
    rotation = rotated.resume()
    has_begun = point != "note rotate"
    assert [(each.version, each.stage) for each in rotation.versions] == (
        [(1, "revoked"), (2, "current")] if has_begun else [(1, "current")]
    )
    # No key is lost, and none is left behind.
    assert rotated.service.accepted == [rotated.current_value()]
    assert len(rotated.service.keys) == 1 + has_begun


def _no_audit(what: str, path: str, version: int, who: Who) -> None:
    """The audit of these tests keeps nothing."""


def _kill_after(point: str, rotations: Rotations) -> None:
    """Kill this process after it has done something. Changes the classes of this process too."""

    def told(name: Callable[..., str], done: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            answer = done(*args)
            if name(*args) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return wrapped

    store, rotator = rotations._store, rotations._secrets[PATH].rotator
    for subject, names in (
        (store, ("write", "destroy")),
        (rotator, ("create", "set", "test", "revoke")),
    ):
        for name in names:
            setattr(subject, name, told(lambda *_, name=name: name, getattr(subject, name)))
    rotations._note = told(lambda what, *_: f"note {what}", rotations._note)
    SetLease.write = told(_state_of, SetLease.write)  # type: ignore[method-assign]


def _state_of(lease: SetLease, known: Any, rotation: Rotation) -> str:
    """The point of a write of the state: the newest version's stage, or `revoked`."""
    if any(each.stage == "revoked" for each in rotation.versions):
        return "state revoked"
    newest = rotation.versions[-1]
    return f"state {newest.stage}" if newest.version > 1 else "state known"
