"""No use of a secret meets its revocation, in whatever order rotations, uses and reports happen.

Hypothesis draws the order. The state, the reports and their scripts are those of a real Valkey. The
grace never ends, so each revocation rests on acknowledgements alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from versioned_secrets import MemoryStore, Provider, rotated

from fleet.errors import FleetError, InvalidRequest, RotationFailed, SecretsUnavailable
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.secrets.current import CurrentSecrets
from fleet.secrets.rotation import Rotations, Who
from fleet.secrets.rotation_store import RotationStore
from fleet.secrets.secrets import Secrets
from fleet.secrets.values import Secret

PATHS = ("providers/acme", "providers/zeta")
STEPS = ("create", "write", "set", "test", "revoke", "destroy")
KILLED_AT = st.sampled_from((*STEPS, *[""] * len(STEPS)))
"""In half of the cases the process lives."""
ME = Who("tester", "a test")
MAX_PROCESSES = 2
EXAMPLES = 30
STEPS_OF_EXAMPLE = 40


class Killed(BaseException):
    """The rotating process dies here."""


class Process:
    """A process that uses secrets, and reports when it is told to."""

    def __init__(self, store: MemoryStore, state: RotationStore) -> None:
        self.current = CurrentSecrets(state, PATHS, "agent", None)
        self.secrets = Secrets([store], self.current.version, 60, lambda: 0.0)
        self.current.serve(self.secrets)
        self.uses: list[tuple[AbstractContextManager[Secret], Secret]] = []


class Fleet(RuleBasedStateMachine):
    """A rotating process, and up to two that use secrets."""

    client: redis.Redis
    scripts: Scripts

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        state = RotationStore(self.client, Keys("{fleet}"), self.scripts)
        self.state = state
        self.provider = Provider({f"{path}-key-0" for path in PATHS})
        self.store = MemoryStore({path: {"api_key": f"{path}-key-0"} for path in PATHS})
        secrets = {path: rotated(self.provider) for path in PATHS}
        self.rotations = Rotations(
            secrets, self.store, state, self.note, 1e9, lambda: 0.0
        )
        self.processes: list[Process] = []

    def note(self, what: str, path: str, version: int, who: Who) -> None:
        """The audit of this test keeps nothing."""

    @rule()
    @precondition(lambda self: len(self.processes) < MAX_PROCESSES)
    def start_a_process(self) -> None:
        self.processes.append(Process(self.store, self.state))

    @rule(place=st.integers(0, MAX_PROCESSES - 1), path=st.sampled_from(PATHS))
    @precondition(lambda self: self.processes)
    def begin_a_use(self, place: int, path: str) -> None:
        process = self.processes[place % len(self.processes)]
        use = process.secrets.use(path)
        process.uses.append((use, use.__enter__()))

    @rule(place=st.integers(0, MAX_PROCESSES - 1))
    @precondition(lambda self: self.processes)
    def end_a_use(self, place: int) -> None:
        process = self.processes[place % len(self.processes)]
        if process.uses:
            use, _ = process.uses.pop(0)
            use.__exit__(None, None, None)

    @rule(place=st.integers(0, 1), store_is_away=st.sampled_from((False, False, True)))
    @precondition(lambda self: self.processes)
    def report(self, place: int, store_is_away: bool) -> None:
        process = self.processes[place % len(self.processes)]
        if not process.secrets.usage().loaded:
            return

        def before(method: str) -> None:
            if store_is_away:
                raise SecretsUnavailable("the store is away")

        self.store.before = before
        process.current.look()
        self.store.before = lambda method: None

    @rule(path=st.sampled_from(PATHS), killed_at=KILLED_AT)
    def rotate(self, path: str, killed_at: str) -> None:
        self._killed_at(killed_at, lambda: self.rotations.rotate(path, ME))

    @rule(path=st.sampled_from(PATHS), killed_at=KILLED_AT)
    def resume(self, path: str, killed_at: str) -> None:
        self._killed_at(killed_at, lambda: self.rotations.resume(path))

    @rule(killed_at=KILLED_AT)
    def let_beat_work(self, killed_at: str) -> None:
        self._killed_at(killed_at, self.rotations.work)

    def _killed_at(self, step: str, act: Any) -> None:
        def before(method: str) -> None:
            if method == step:
                raise Killed

        self.store.before = self.provider.before = before
        try:
            act()
        except (Killed, InvalidRequest):
            pass
        finally:
            self.store.before = self.provider.before = lambda method: None

    @invariant()
    def each_use_in_progress_has_a_key_that_its_provider_accepts(self) -> None:
        for process in self.processes:
            for _, secret in process.uses:
                self.provider.call(secret.fields["api_key"])

    def teardown(self) -> None:
        """When all uses have ended and all processes report, all old versions go."""
        self.rotations.work()
        for process in self.processes:
            for use, _ in process.uses:
                use.__exit__(None, None, None)
            if process.secrets.usage().loaded:
                process.current.look()
        self.rotations.work()
        for path in PATHS:
            rotation = self.state.read(path).rotation
            assert not rotation.previous and not rotation.unfinished
            self.provider.call(self.store.read(path).fields["api_key"])
        assert len(self.provider.accepted) == len(PATHS)


def test_no_use_meets_a_revocation(client: redis.Redis) -> None:
    case = _fleet_on(client).TestCase
    # Without shrinking, which takes minutes here.
    case.settings = settings(
        settings.default,
        max_examples=EXAMPLES,
        stateful_step_count=STEPS_OF_EXAMPLE,
        phases=(Phase.generate,),
    )
    case().runTest()


def test_a_failed_step_leaves_the_current_version_and_says_so(client: redis.Redis) -> None:
    machine = _fleet_on(client)()

    def refuse(method: str) -> None:
        if method == "test":
            raise SecretsUnavailable("acme is busy")

    machine.provider.before = refuse
    with pytest.raises(RotationFailed, match=r"could not be tested: acme is busy. Version 1 stays"):
        machine.rotations.rotate(PATHS[0], ME)
    rotation = machine.state.read(PATHS[0]).rotation
    assert rotation.current is not None and rotation.current.version == 1
    assert (rotation.failures, rotation.failure) == (1, "test: acme is busy")


def _fleet_on(client: redis.Redis) -> type[Fleet]:
    return type("FleetOnValkey", (Fleet,), {"client": client, "scripts": Scripts(client)})


def test_an_unfinished_rotation_blocks_its_set_and_is_resumed_by_beat(client: redis.Redis) -> None:
    machine = _fleet_on(client)()
    machine.rotate(PATHS[0], "test")
    for path in PATHS:
        with pytest.raises(InvalidRequest, match="unfinished"):
            machine.rotations.rotate(path, ME)
    assert machine.rotations.work() == {"resumed": [PATHS[0]], "revoked": [PATHS[0]]}
    assert machine.rotations.rotate(PATHS[1], ME).unfinished is None


def test_two_rotations_of_a_set_do_not_run_at_once(client: redis.Redis) -> None:
    machine = _fleet_on(client)()
    with machine.state.lease_of("providers"), pytest.raises(FleetError, match="another process"):
        machine.rotations.rotate(PATHS[0], ME)


def test_beat_rotates_one_due_secret_of_a_set_at_a_time(client: redis.Redis) -> None:
    machine = _fleet_on(client)()
    secrets = {path: rotated(machine.provider, every=3600) for path in PATHS}
    rotations = Rotations(secrets, machine.store, machine.state, machine.note, 1e9, lambda: 0.0)
    # The versions in the store are from 1970.
    for path in PATHS:
        assert rotations.work() == {"rotated": [path], "revoked": [path]}
    assert rotations.work() == {}
    assert [each.rotation.why for each in rotations.status()] == ["no process uses it"] * 2


def test_a_version_is_revoked_at_the_end_of_its_grace_though_a_process_uses_it(
    client: redis.Redis,
) -> None:
    machine = _fleet_on(client)()
    secrets = {PATHS[0]: rotated(machine.provider, grace=0.0)}
    rotations = Rotations(secrets, machine.store, machine.state, machine.note, 1e9, lambda: 0.0)
    machine.start_a_process()
    machine.begin_a_use(0, PATHS[0])
    rotations.rotate(PATHS[0], ME)
    assert rotations.work() == {"revoked": [PATHS[0]]}
    (status,) = rotations.status(PATHS[0])
    assert status.rotation.why == "its grace has ended"
