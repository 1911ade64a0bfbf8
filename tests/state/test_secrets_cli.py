"""`fleet secrets set`, `get`, `list` and `history`: no value is shown unasked."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import Result
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.errors import (
    InvalidRequest,
    SecretConflict,
    SecretNotFound,
    Unavailable,
)
from fleet.secrets.file_store import FileStore
from fleet.secrets.stores import configured_stores
from fleet.settings import Settings
from fleet.tasks.connection import open_connection

PATH = "providers/openai"
CANARY = "sk-canary-7f3a"

Command = Callable[..., Result]


@pytest.fixture
def settings(
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Settings:
    clean_environment.setenv("FLEET_MASTER_KEY_FILE", str(tmp_path / "keys" / "master.key"))
    return settings_of("")


@pytest.fixture
def store(settings: Settings) -> FileStore:
    _, found = configured_stores(settings)
    assert isinstance(found, FileStore)
    return found


@pytest.fixture
def run(settings: Settings) -> Command:
    def run(*arguments: str, given: str = "") -> Result:
        return CliRunner().invoke(app, ["secrets", *arguments], input=given)

    return run


def acts(settings: Settings) -> list[tuple[str, str, str]]:
    """What of secrets is in the audit, oldest first: what, path and version."""
    audit = open_connection(settings).policy.audit
    found = [entry.facts for entry in audit.newest() if entry.facts.get("path") == PATH]
    return [(each["what"], each["path"], each["version"]) for each in reversed(found)]


def test_a_value_comes_from_standard_input_and_is_not_printed(
    run: Command, store: FileStore, settings: Settings
) -> None:
    done = run("set", PATH, "--stdin", given=f"{CANARY}\n")
    assert done.exit_code == 0, done.output
    assert store.read(PATH).fields == {"api_key": CANARY}
    assert "version 1 written to the store file" in done.output
    assert CANARY not in done.output
    assert acts(settings) == [("set", PATH, "1")]


def test_a_value_comes_from_a_file(run: Command, store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(f"{CANARY}\r\n".encode())
    assert run("set", PATH, "token", "--file", str(tmp_path / "key")).exit_code == 0
    assert store.read(PATH).fields == {"token": CANARY}


def test_several_fields_are_one_json_object(run: Command, store: FileStore) -> None:
    fields = {"api_key": CANARY, "project": "p"}
    done = run("set", PATH, "api_key", "project", "--stdin", "--json", given=json.dumps(fields))
    assert json.loads(done.stdout) == {
        "path": PATH,
        "version": 1,
        "store": "file",
        "hidden_by": None,
    }
    assert store.read(PATH).fields == fields


def test_other_fields_stay_unless_they_are_to_be_dropped(run: Command, store: FileStore) -> None:
    store.write(PATH, {"api_key": "one", "project": "p"}, 0)
    run("set", PATH, "--stdin", given="two")
    assert store.read(PATH).fields == {"api_key": "two", "project": "p"}
    run("set", PATH, "--stdin", "--replace", given="three")
    assert store.read(PATH).fields == {"api_key": "three"}


def test_a_destroyed_newest_version_does_not_come_back(run: Command, store: FileStore) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.destroy(PATH, 1)
    assert run("set", PATH, "--stdin", given="two").exit_code == 0
    assert store.read(PATH).version == 2


def test_a_conflict_is_said(run: Command, store: FileStore) -> None:
    store.write(PATH, {"api_key": "theirs"}, 0)
    done = run("set", PATH, "--stdin", "--expected", "0", given=CANARY)
    assert isinstance(done.exception, SecretConflict)
    assert "somebody else wrote it" in str(done.exception)
    assert store.read(PATH).fields == {"api_key": "theirs"}


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (("Providers",), ""),
        ((PATH, "Api-Key"), ""),
        ((PATH,), ""),
        ((PATH, "--stdin", "--file", "x"), ""),
        ((PATH, "--file", "absent"), ""),
        ((PATH, "--stdin"), ""),
        ((PATH, "a", "b", "--stdin"), f'{{"a": "{CANARY}"}}'),
        ((PATH, "a", "b", "--stdin"), f'{{"a": "{CANARY}", "b": 7}}'),
        ((PATH, "a", "b", "--stdin"), CANARY),
        ((PATH, "--stdin"), CANARY * 10_000),
    ],
    ids=["path", "field", "no terminal", "both", "absent", "empty", "less", "type", "text", "long"],
)
def test_what_cannot_be_set_is_refused_before_anything_is_written(
    run: Command,
    store: FileStore,
    settings: Settings,
    arguments: tuple[str, ...],
    given: str,
) -> None:
    done = run("set", *arguments, given=given)
    assert isinstance(done.exception, InvalidRequest)
    assert CANARY not in str(done.exception) + done.output
    assert (store.paths("providers/"), acts(settings)) == ([], [])


def test_without_the_audit_nothing_is_set_and_nothing_shown(
    run: Command, store: FileStore, clean_environment: pytest.MonkeyPatch
) -> None:
    store.write(PATH, {"api_key": CANARY}, 0)
    clean_environment.setenv("FLEET_BROKER_URL", "redis://127.0.0.1:1/0")
    for arguments, given in ((("set", PATH, "--stdin"), "two"), (("get", PATH, "--reveal"), "")):
        done = run(*arguments, given=given)
        assert isinstance(done.exception, Unavailable)
        assert CANARY not in done.output
    assert store.read(PATH).version == 1


def test_a_variable_that_hides_what_is_set_is_named(
    run: Command, clean_environment: pytest.MonkeyPatch
) -> None:
    clean_environment.setenv("FLEET_SECRET_PROVIDERS__OPENAI__API_KEY", "sk-variable")
    done = run("set", PATH, "--stdin", given=CANARY)
    assert "the store environment comes first" in done.output
    done = run("set", PATH, "--stdin", "--json", given="other")
    assert json.loads(done.stdout)["hidden_by"] == "environment"


def test_values_are_hidden_until_they_are_asked_for(
    run: Command, store: FileStore, settings: Settings
) -> None:
    store.write(PATH, {"api_key": CANARY, "project": "p"}, 0)
    hidden = run("get", PATH)
    assert "api_key" in hidden.output
    assert CANARY not in hidden.output
    found = json.loads(run("get", PATH, "--json").stdout)
    assert (found["version"], found["store"]) == (1, "file")
    assert found["fields"] == ["api_key", "project"]
    assert acts(settings) == []


def test_a_value_that_is_shown_is_in_the_audit(
    run: Command, store: FileStore, settings: Settings
) -> None:
    store.write(PATH, {"api_key": CANARY, "project": "p"}, 0)
    assert run("get", PATH, "api_key", "--reveal", "--why", "an incident").stdout == f"{CANARY}\n"
    found = json.loads(run("get", PATH, "--reveal", "--json").stdout)
    assert found["fields"] == {"api_key": CANARY, "project": "p"}
    assert CANARY in run("get", PATH, "--reveal").stdout
    assert acts(settings) == [("reveal", PATH, "1")] * 3


def test_an_older_version_is_shown(run: Command, store: FileStore) -> None:
    store.write(PATH, {"api_key": "one"}, 0)
    store.write(PATH, {"api_key": "two"}, 1)
    found = run("get", PATH, "api_key", "--version", "1", "--reveal")
    assert found.stdout == "one\n"
    assert isinstance(run("get", PATH, "--version", "3").exception, SecretNotFound)


def test_what_is_not_there_is_said(run: Command, store: FileStore) -> None:
    for command in ("get", "history"):
        assert isinstance(run(command, PATH).exception, SecretNotFound)
    store.write(PATH, {"api_key": "one"}, 0)
    refused = run("get", PATH, "token", "--reveal")
    assert isinstance(refused.exception, InvalidRequest)
    assert "api_key" in str(refused.exception)


def test_paths_are_listed_with_their_stores(
    run: Command, store: FileStore, clean_environment: pytest.MonkeyPatch
) -> None:
    assert "no secrets yet" in run("list", "providers/").output
    store.write(PATH, {"api_key": CANARY}, 0)
    clean_environment.setenv("FLEET_SECRET_PROVIDERS__OPENAI__API_KEY", CANARY)
    done = run("list", "providers/", "--json")
    assert json.loads(done.stdout) == [{"path": PATH, "stores": ["environment", "file"]}]
    assert PATH in run("list").output
    assert CANARY not in run("list").output
    assert run("list", "providers/", "--csv").stdout.splitlines()[0] == "path,stores"


def test_the_history_has_every_version_and_no_value(run: Command, store: FileStore) -> None:
    for version in range(3):
        store.write(PATH, {"api_key": CANARY}, version)
    store.destroy(PATH, 2)
    found: list[dict[str, Any]] = json.loads(run("history", PATH, "--json").stdout)
    assert [(each["version"], each["destroyed"]) for each in found] == [
        (3, False),
        (2, True),
        (1, False),
    ]
    assert "destroyed" in run("history", PATH).output
    assert CANARY not in run("history", PATH).output


def test_a_value_that_somebody_types_is_not_echoed(store: FileStore) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "fleet", "secrets", "set", PATH]
    # Without a terminal of its own, so that it asks on this one.
    given = {"stdin": end, "stdout": end, "stderr": end, "start_new_session": True}
    with subprocess.Popen(command, **given) as process:
        os.close(end)
        shown = b""
        # The last character of a prompt comes when the terminal has stopped to echo.
        for prompt in (b"api_key: ", b"confirmation: "):
            while prompt not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, f"{CANARY}\n".encode())
        while True:
            try:
                read = os.read(terminal, 1000)
            except OSError:
                # The other end is closed: the command has ended.
                break
            if not read:
                break
            shown += read
    os.close(terminal)
    assert process.returncode == 0, shown
    assert CANARY.encode() not in shown
    assert store.read(PATH).fields == {"api_key": CANARY}
