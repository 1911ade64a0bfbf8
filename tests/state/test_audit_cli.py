"""`fleet audit`: shown, verified, exported, and accepted after a break."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet

from beat_schedules.jobs import add_jobs
from fleet.audit.origin import Origin
from fleet.audit.reads import ReadLog
from fleet.broker.app import make_app
from fleet.broker.known_tasks import ANCHOR
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

Command = Callable[..., subprocess.CompletedProcess[str]]
OPS = Origin("ops", "host:1")


@pytest.fixture
def connection(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Connection:
    clean_environment.setenv("FLEET_MASTER_KEY_FILE", str(tmp_path / "keys" / "master.key"))
    connection = open_connection(settings_of())
    limit = LimitKey("tenant:acme", "rolling", "requests")
    connection.policy.store.set_limits({limit: 5}, AuditActor("ops", "a loop"))
    log = connection.policy.audit
    log.act("reveal", "providers/openai", 3, OPS, why="an incident")
    log.append("grant", {"what": "create", "about": "tenant:acme", **OPS._asdict(), "why": "new"})
    reads = ReadLog(log, by="agent-7")
    for _ in range(3):
        reads.note("providers/openai", 3, "use")
    reads.close()
    return connection


@pytest.fixture
def fleet(connection: Connection, tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_fleet("audit", *arguments, folder=tmp_path)

    return run


def rows(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_changes_are_shown_and_reads_where_they_are_asked_for(fleet: Command) -> None:
    assert fleet("--json").stdout == fleet("show", "--json").stdout
    grant, reveal, limit = rows(fleet("show", "--json"))
    assert (grant["kind"], grant["about"]) == ("grant", ["create", "tenant:acme"])
    assert (reveal["about"], reveal["version"]) == (["reveal", "providers/openai"], 3)
    assert (reveal["by"], reveal["where"], reveal["why"]) == ("ops", "host:1", "an incident")
    assert (limit["kind"], limit["after"], limit["seq"]) == ("limit", "5", 1)
    (read,) = rows(fleet("show", "--kind", "reads", "--json"))
    assert (read["by"], read["about"]) == ("agent-7", ["use", "providers/openai", "ok"])
    assert (read["version"], read["times"]) == (3, 3)
    assert len(rows(fleet("--kind", "all", "--json"))) == 4
    assert len(fleet("show", "--csv").stdout.splitlines()) == 4
    shown = fleet("show", "--kind", "all").stdout
    assert "reads use providers/openai ok version 3 x 3" in shown
    assert "ops at host:1" in shown


def test_the_audit_is_verified_against_the_anchor(fleet: Command, connection: Connection) -> None:
    found = fleet("verify")
    assert found.returncode == 0
    assert "entries 1 to 4" in found.stdout
    assert "no anchor" in found.stdout
    connection.secrets.writable.write("tests/some", {"value": "x"}, 0)
    app = make_app(connection.settings)
    add_jobs(app)
    assert app.tasks[ANCHOR]() == 0
    assert "anchored up to entry 4" in fleet("verify").stdout
    connection.client.delete(connection.keys.audit, connection.keys.audit_head)
    found = fleet("verify", "--json")
    assert found.returncode == 1
    verdict = json.loads(found.stdout)
    assert (verdict["intact"], verdict["anchored"]) == (False, 4)
    assert [each["kind"] for each in verdict["problems"]] == ["missing"]
    assert "entries 1 to 4 are missing at the end" in fleet("verify").stdout
    assert len(rows(fleet("accept", "--why", "lost", "--json"))["accepted"]) == 1
    (accepted,) = rows(fleet("--json"))
    assert (accepted["kind"], accepted["why"]) == ("anchor", "lost")
    assert fleet("verify").returncode == 0


def test_an_export_is_verified_without_redis(
    fleet: Command, connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    assert fleet("export", "-o", str(file)).returncode == 0
    text = file.read_text()
    assert fleet("export").stdout == text
    last = connection.policy.audit.head().last
    assert fleet("verify", "--file", str(file)).returncode == 0
    anchor = f"{last.seq}:{last.hash}"
    assert fleet("verify", "--file", str(file), "--anchor", anchor).returncode == 0
    assert fleet("verify", "--file", str(file), "--anchor", f"9{anchor}").returncode == 1
    file.write_text(text.replace("an incident", "no incident"))
    found = fleet("verify", "--file", str(file))
    assert found.returncode == 1
    assert "entry 2" in found.stdout
    lines = text.splitlines(keepends=True)
    for cut in (lines[:-1], lines[1:], [*lines[:3], lines[-1]]):
        file.write_text("".join(cut))
        assert fleet("verify", "--file", str(file)).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["verify", "--file", "nowhere"], "nowhere cannot be read", id="no-file"),
        pytest.param(["verify", "--anchor", "5"], "'5' is no anchor", id="no-anchor"),
        pytest.param(["verify", "--file", "odd"], "line 1 is no line of", id="no-export"),
        pytest.param(["export", "-o", "no/where"], "no/where cannot be written", id="no-folder"),
        pytest.param(["accept", "--why", " "], "give a reason for the audit", id="no-reason"),
    ],
)
def test_bad_input_gets_a_sentence(
    fleet: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "odd").write_text("[1]\n")
    found = fleet(*arguments)
    assert found.returncode == 2
    assert sentence in found.stderr.replace("\n", " ")
