"""Secrets of a running fleet, searched wherever it writes: logs, records, Redis, pages, arguments.

Its agent puts secrets into variables and errors, and its provider repeats the key.
"""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
import pytest
import redis
from fake_provider import Behaviour, FakeProvider
from free_ports import free_port
from harness import ROOT, Crew, Processes, eventually

from fleet import Fleet, Task
from fleet.errors import ResultTimeout

HERE = Path(__file__).parent

CANARIES = {
    "provider's key": "sk-canary-Qm7tZ2xW9rL4",
    "key that looks like a code": "canary_of_the_second_provider",
    "Redis's password": "redis/canary+Hd83Kx",
    "Flower's password": "flower-canary-Vb61Ty",
    "ops token": "ops-canary-Nc57Rw",
    "signing key": "signing-canary-0123456789-0123456789-Zp",
    "stored secret": "stored-canary-Gf29Mu",
}

CONFIG = """
[agent_types.spiller]

[pools.spills]
agent_type = "spiller"
slots = 4

[request_types.spill]
agent_type = "spiller"

[limits]
task_seconds = 6

[retries]
most = 0

[messages]
signing = "hmac"

[providers.first]
base_url = "{url}"
secret = "providers/first"

[providers.second]
base_url = "{url}"
key_variable = "SECOND_API_KEY"

[catalogue.one]
provider = "first"
quality = 0.9
speed = 0.9
free = true

[catalogue.two]
provider = "second"
quality = 0.5
speed = 0.5
free = true
"""

STORED = {
    "providers/first api_key": "provider's key",
    "messages/signing key": "signing key",
    "tenants/acme/mail password": "stored secret",
}

COMMANDS = (
    *("tasks --json", "status --json", "config show --json", "models --json", "agents --json"),
    *("dead list --json", "ledger show --json", "secrets list --json", "audit show --json"),
)


def forms(canary: str) -> set[bytes]:
    """A canary as it may be written: bare, in an address, in a header."""
    encoded = b64encode(canary.encode()).rstrip(b"=")
    login = b64encode(f"fleet:{canary}".encode()).rstrip(b"=")
    return {canary.encode(), quote(canary, safe="").encode(), encoded, login}


def hits(
    texts: Mapping[str, bytes], canaries: Mapping[str, str] = CANARIES
) -> list[tuple[str, str]]:
    """Where which canary stands."""
    return [
        (place, name)
        for place, text in texts.items()
        for name, canary in canaries.items()
        if any(form in text for form in forms(canary))
    ]


@dataclass(frozen=True)
class Spilling:
    """The running fleet, and its tasks by how they end."""

    crew: Crew
    client: redis.Redis
    tasks: Mapping[str, Task]
    flower: str
    ops: str

    def logs(self) -> dict[str, bytes]:
        folder = self.crew.processes.folder
        return {path.name: path.read_bytes() for path in folder.glob("*.log")}

    def kept(self) -> dict[str, bytes]:
        """Every key of Redis with all that it holds."""
        readers: dict[bytes, Any] = {
            b"string": self.client.get,
            b"hash": self.client.hgetall,
            b"list": lambda key: self.client.lrange(key, 0, -1),
            b"set": self.client.smembers,
            b"zset": lambda key: self.client.zrange(key, 0, -1),
            b"stream": self.client.xrange,
        }
        return {
            key.decode(): _bytes(readers[self.client.type(key)](key))
            for key in self.client.scan_iter(count=1000)
        }

    def printed(self) -> dict[str, bytes]:
        commands = [command.split() for command in COMMANDS]
        commands += [["task", task.id, "--json"] for task in self.tasks.values()]
        found = {}
        for command in commands:
            done = self.crew.processes.fleet(*command)
            assert done.returncode == 0, done.stderr
            found[" ".join(command)] = (done.stdout + done.stderr).encode()
        return found

    def pages(self) -> dict[str, bytes]:
        paths = ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/workers", "/api/tasks"]
        paths += [f"/task/{task.id}" for task in self.tasks.values()]
        password = CANARIES["Flower's password"]
        login = "Basic " + b64encode(f"fleet:{password}".encode()).decode()
        found = {path: _page(f"{self.flower}{path}", login) for path in paths}
        bearer = f"Bearer {CANARIES['ops token']}"
        for path in ("/health", "/ready", "/metrics", "/scale/spills"):
            found[f"ops {path}"] = _page(f"{self.ops}{path}", bearer)
        return found


def _bytes(value: Any) -> bytes:
    """All strings in an answer of Redis, one after another."""
    if isinstance(value, dict):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, (list, tuple, set)):
        return b"\n".join(map(_bytes, value))
    return value if isinstance(value, bytes) else str(value).encode()


def _page(url: str, authorization: str) -> bytes:
    with urlopen(Request(url, headers={"Authorization": authorization}), timeout=20) as answer:
        content: bytes = answer.read()
    assert content
    return content


def arguments() -> dict[str, bytes]:
    """The arguments of every process of this machine."""
    found = {}
    for process in psutil.process_iter():
        try:
            found[f"process {process.pid}"] = "\0".join(process.cmdline()).encode()
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def spilling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spilling]:
    folder = tmp_path_factory.mktemp("canary")
    ports = {name: free_port() for name in ("broker", "flower", "ops")}
    password = quote(CANARIES["Redis's password"], safe="")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    environment = {
        **kept,
        "FLEET_BROKER_URL": f"redis://:{password}@127.0.0.1:{ports['broker']}/0",
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_DATA_DIR": str(folder / "data"),
        "FLEET_MASTER_KEY_FILE": str(folder / "keys" / "master.key"),
        "FLEET_FLOWER_PASSWORD": CANARIES["Flower's password"],
        "FLEET_FLOWER_PORT": str(ports["flower"]),
        "FLEET_OPS_PORT": str(ports["ops"]),
        "FLEET_OPS_TOKEN": CANARIES["ops token"],
        "SECOND_API_KEY": CANARIES["key that looks like a code"],
        "PYTHONPATH": os.pathsep.join((str(HERE / "spiller"), str(ROOT))),
    }
    processes = Processes(folder, environment)
    with FakeProvider() as fake, pytest.MonkeyPatch.context() as patch:
        (folder / "fleet.toml").write_text(CONFIG.format(url=fake.base_url))
        for name in os.environ:
            if name.startswith("FLEET_"):
                patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(HERE / "spiller"))
        client = redis.Redis(port=ports["broker"], password=CANARIES["Redis's password"])
        try:
            processes.start("broker", "broker")
            eventually(lambda: _answers(client), 30, "the broker")
            for place, name in STORED.items():
                done = processes.fleet("secrets", "set", *place.split(), "--stdin",
                                       stdin=CANARIES[name])
                assert done.returncode == 0, done.stderr
            for name in ("beat", "flower", "ops"):
                processes.start(name, name)
            processes.start("spills", "worker", "spills")
            crew = Crew(Fleet.from_env(), processes)
            crew.await_pool("spills")
            tasks = _run(crew, fake)
            flower, ops = (f"http://127.0.0.1:{ports[name]}" for name in ("flower", "ops"))
            yield Spilling(crew, client, tasks, flower, ops)
        finally:
            client.close()
            broker = processes.running.pop("broker", None)
            processes.stop_all()
            if broker is not None:
                processes.running["broker"] = broker
                processes.stop_all()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _run(crew: Crew, fake: FakeProvider) -> dict[str, Task]:
    """A task for each way to end. Those that fail by their provider are asked of either model."""
    tasks = {"well": _first(crew)}
    tasks |= {end: crew.fleet.submit("spill", {"end": end}) for end in ("raised", "slow")}
    _await(tasks["raised"])
    keys = {"one": "provider's key", "two": "key that looks like a code"}
    for model, name in keys.items():
        for field in ("message", "type", "code"):
            fault = {"message": "no", "type": "a", "code": "b", field: CANARIES[name]}
            fake.script(model, *[Behaviour(400, {"error": fault})] * 4)
            task = crew.fleet.submit("spill", {"end": "asked"}, model=model)
            tasks[f"{model}, {field}"] = task
            _await(task)
    _await(tasks["slow"])
    return tasks


def _first(crew: Crew) -> Task:
    """A task that ends well. On a busy machine the first call of a model may take too long."""
    for _ in range(10):
        task = crew.fleet.submit("spill", {})
        _await(task)
        if task.state() == "succeeded":
            break
    return task


def _await(task: Task) -> None:
    try:
        task.wait(30)
    except ResultTimeout as error:
        pytest.fail(str(error))


def test_the_tasks_end_in_every_way(spilling: Spilling) -> None:
    records = {end: task.record() for end, task in spilling.tasks.items()}
    states = {end: record.state for end, record in records.items()}
    assert states == {"well": "succeeded", **dict.fromkeys(list(states)[1:], "failed")}
    raised = records["raised"].error
    assert raised is not None
    assert raised["message"].endswith(" with ***: refused")
    slow = records["slow"].error
    assert slow is not None
    assert slow["type"] == "TaskTimedOut"


@pytest.mark.parametrize("name", CANARIES)
def test_the_search_knows_each_canary_in_each_form(name: str) -> None:
    texts = {f"{number}": b"a" + form + b"z" for number, form in enumerate(forms(CANARIES[name]))}
    assert hits(texts) == [(place, name) for place in texts]


def test_the_search_finds_what_is_planted(spilling: Spilling) -> None:
    planted = {"planted": "planted/canary+Ty40Lk"}
    key = "{fleet}:planted"
    log = spilling.crew.processes.folder / "planted.log"
    address = quote(planted["planted"], safe="")
    command = [sys.executable, "-c", "import time; time.sleep(60)", address]
    with subprocess.Popen(command) as process:
        try:
            spilling.client.hset(key, "field", b64encode(planted["planted"].encode()))
            log.write_text(f"redis://:{address}@host\n")
            searched = {**spilling.kept(), **spilling.logs(), **arguments()}
        finally:
            process.kill()
            spilling.client.delete(key)
            log.unlink()
    places = {key, "planted.log", f"process {process.pid}"}
    assert {place for place, _ in hits(searched, planted)} == places


def test_no_canary_is_in_the_logs_or_arguments_of_any_process(spilling: Spilling) -> None:
    logs = spilling.logs()
    assert {"broker.log", "beat.log", "flower.log", "ops.log", "spills.log"} <= logs.keys()
    assert b"an agent failed" in logs["spills.log"]
    assert hits({**logs, **arguments()}) == []


def test_no_canary_is_in_redis(spilling: Spilling) -> None:
    kept = spilling.kept()
    assert len(kept) > 20
    assert b"refused" in b"".join(kept.values())
    assert hits(kept) == []


def test_no_command_prints_a_canary(spilling: Spilling) -> None:
    assert hits(spilling.printed()) == []


def test_no_canary_is_on_a_page_or_among_the_metrics(spilling: Spilling) -> None:
    task = spilling.tasks["raised"].id
    eventually(lambda: task.encode() in spilling.pages()["/api/tasks"], 20, "the task in Flower")
    assert hits(spilling.pages()) == []


def test_no_canary_is_in_the_data_folder_but_where_a_server_reads_it(spilling: Spilling) -> None:
    folder = spilling.crew.processes.folder
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    found = {place for place, _ in hits({str(path): path.read_bytes() for path in files})}
    assert {Path(place).name for place in found} <= {"valkey.conf", "users.acl"}
    assert all(Path(place).stat().st_mode & 0o077 == 0 for place in found)
