"""`fleet secrets rotate`, `revoke` and `status`, and a hand that sets a rotated secret."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet
from fake_key_service import ADMIN_KEY, FakeKeyService

from beat_schedules.jobs import add_jobs
from fleet.broker.app import make_app
from fleet.broker.known_tasks import ROTATE
from fleet.settings import Settings, load_settings
from fleet.tasks.connection import Connection, open_connection

PATH, MADE = "providers/acme", "tokens/tools"
CONFIG = """
[leases]
heartbeat_seconds = 0.1

[secrets]
stores = ["file"]

[secrets.rotation."providers/acme"]
rotator = "anthropic_admin"
options = {{ admin = "admin/acme", base_url = "{url}" }}

[secrets.rotation."tokens/tools"]
rotator = "generated"
every_days = 30
"""


@pytest.fixture
def service() -> Iterator[FakeKeyService]:
    with FakeKeyService() as found:
        yield found


@pytest.fixture
def fleet(
    client: redis.Redis,
    service: FakeKeyService,
    settings_of: Callable[[str], Settings],
    tmp_path: Path,
) -> Iterator[Callable[..., Any]]:
    """Runs `fleet secrets ...` and returns its JSON, or its error."""
    settings_of(CONFIG.format(url=service.url))
    environment = {**os.environ, "FLEET_MASTER_KEY_FILE": str(tmp_path / "keys" / "master.key")}

    def run(*arguments: str, stdin: str = "") -> Any:
        done = run_fleet(
            *("secrets", *arguments, "--json"), folder=tmp_path, environment=environment,
            stdin=stdin,
        )
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEET_MASTER_KEY_FILE", environment["FLEET_MASTER_KEY_FILE"])
        run("set", "admin/acme", "--stdin", stdin=ADMIN_KEY)
        run("set", PATH, "--stdin", stdin=service.make_key("first").value)
        run("set", MADE, "--stdin", stdin="made by a person")
        yield run


def stages(found: Any) -> list[tuple[int, str]]:
    return [(each["version"], each["stage"]) for each in found["versions"]]


def acknowledged(fleet: Callable[..., Any]) -> Any:
    """The only process, when it has acknowledged the new version of a secret."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (shown,) = fleet("status", MADE)
        (process,) = shown["processes"]
        if process["acknowledged"]:
            return process
    pytest.fail("the process has not acknowledged")


@pytest.fixture
def connection(fleet: Callable[..., Any], settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(load_settings())


def test_a_secret_is_rotated_shown_and_revoked(fleet: Callable[..., Any]) -> None:
    assert stages(fleet("rotate", MADE)) == [(1, "previous"), (2, "current")]
    (shown,) = fleet("status", MADE)
    assert (shown["current"], shown["held_by"], shown["why"]) == (2, {"1": 0}, "by hand")
    assert shown["due"] > 0
    assert fleet("revoke", MADE, "1") == {"path": MADE, "version": 1, "stage": "revoked"}
    (shown,) = fleet("status", MADE)
    assert stages(shown) == [(1, "revoked"), (2, "current")]
    assert "revoked" in fleet("revoke", MADE, "1")


def test_a_process_that_uses_a_version_holds_it_until_it_has_ended(
    fleet: Callable[..., Any], connection: Connection
) -> None:
    with connection.secrets.use(MADE) as secret:
        assert secret.version == 1
        fleet("rotate", MADE)
        assert "1 processes may still use version 1" in fleet("revoke", MADE, "1")
        process = acknowledged(fleet)
        assert (process["version"], process["in_use"]) == (2, {"1": 1})
        assert "1 processes may still use version 1" in fleet("revoke", MADE, "1")
        assert "give the reason" in fleet("revoke", MADE, "1", "--force")
        assert fleet("revoke", MADE, "1", "--force", "--why", "it leaked")["stage"] == "revoked"
    assert fleet("status", MADE)[0]["why"] == "it leaked"


def test_a_person_brings_the_value_where_the_rotator_makes_none(
    fleet: Callable[..., Any], service: FakeKeyService
) -> None:
    new = service.make_key("second").value
    assert "give it with --stdin or --file" in fleet("rotate", PATH)
    assert stages(fleet("rotate", PATH, "--stdin", stdin=new)) == [
        (1, "previous"), (2, "current")
    ]
    fleet("revoke", PATH, "1")
    assert service.accepted == [new]


def test_a_refused_value_leaves_the_current_one_and_can_be_abandoned(
    fleet: Callable[..., Any], service: FakeKeyService
) -> None:
    said = fleet("rotate", PATH, "--stdin", stdin="sk-canary-wrong")
    assert "could not be tested" in said and "Version 1 stays current" in said
    assert "canary" not in said
    assert "unfinished" in fleet("set", PATH, "--stdin", stdin="sk-other")
    assert "could not be tested" in fleet("rotate", PATH, "--resume")
    (shown,) = fleet("status", PATH)
    assert (shown["current"], shown["unfinished"]) == (1, 2)
    # The service knows no such key, and refuses it: so it counts as revoked.
    assert fleet("revoke", PATH, "2")["stage"] == "revoked"
    assert len(service.accepted) == 1


def test_a_version_that_is_set_by_hand_is_current_at_once(
    fleet: Callable[..., Any], connection: Connection
) -> None:
    assert connection.secrets.read(MADE).version == 1
    fleet("rotate", MADE)
    assert fleet("set", MADE, "--stdin", stdin="by hand")["version"] == 3
    assert connection.rotations.current().versions[MADE].version == 3
    (shown,) = fleet("status", MADE)
    assert stages(shown) == [(1, "previous"), (2, "previous"), (3, "current")]


def test_a_path_without_a_rotator_says_what_to_add(fleet: Callable[..., Any]) -> None:
    assert 'add [secrets.rotation."admin/acme"]' in fleet("rotate", "admin/acme")
    assert "is not rotated" in fleet("status", "admin/acme")


def test_rotations_are_in_the_audit_without_a_value(
    fleet: Callable[..., Any], connection: Connection
) -> None:
    fleet("rotate", MADE, "--why", "an exercise")
    fleet("revoke", MADE, "1")
    found = [entry.facts for entry in connection.policy.audit.newest()]
    acts = [(each["what"], each["version"], each["why"]) for each in found[:2]]
    assert acts == [("revoke", "1", "by hand"), ("rotate", "2", "an exercise")]


def test_the_job_of_beat_revokes_what_nobody_uses(fleet: Callable[..., Any]) -> None:
    fleet("rotate", MADE)
    app = make_app(load_settings(), set_as_current=False)
    add_jobs(app)
    assert app.tasks[ROTATE]() == {"revoked": [MADE]}
    assert stages(fleet("status", MADE)[0]) == [(1, "revoked"), (2, "current")]
