"""`fleet up`, `down` and `status`: a whole fleet from the real Procfile, and its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from commands import run_fleet
from harness import ROOT, eventually
from pydantic import SecretStr

from fleet.cli.status import look
from fleet.local.run_file import running
from fleet.operations.health import http_problem
from fleet.settings import Environment, Settings, parse_config

PASSWORD = "open sesame"
START_SECONDS = 150.0


@dataclass(frozen=True)
class Place:
    """A working folder with the project's Procfile, and an environment that is clean."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **variables}
        return run_fleet(*arguments, folder=self.folder, environment=environment)

    def run_up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """`fleet up` that ends by itself, in a process, as it takes signals over."""
        return subprocess.run(
            [sys.executable, "-m", "fleet", "up"],
            cwd=self.folder,
            env={**self.environment, **variables},
            check=False,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.folder / "up.log").open("wb")
        command = [sys.executable, "-m", "fleet", "up"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=log, stderr=subprocess.STDOUT
        )

    def log(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    def run_file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / ".fleet" / "run.json").read_text())
        return found

    def await_healthy(self) -> None:
        """Looks from this process: commands over and over would slow down the start."""
        eventually(self._is_healthy, START_SECONDS, "a healthy fleet")

    def _is_healthy(self) -> bool:
        data_dir = self.folder / ".fleet"
        run = running(data_dir)
        if run is None:
            return False
        environment = Environment(
            data_dir=data_dir,
            broker_url=SecretStr(run.broker_url),
            model_url=run.model_url,
            model_key=SecretStr(run.model_key or ""),
        )
        parts = look(Settings(environment, parse_config("", "defaults"), "defaults"))
        return all(part.ok for part in parts)

    def processes(self) -> list[psutil.Process]:
        """Every process that was given this place's data folder."""
        return [each for each in psutil.process_iter() if self._is_here(each)]

    def _is_here(self, process: psutil.Process) -> bool:
        try:
            return process.cwd().startswith(str(self.folder))
        except psutil.Error:
            return False


def make_place(folder: Path) -> Place:
    folder = folder.resolve()
    shutil.copy(ROOT / "Procfile", folder)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FLEET_") and not name.endswith("_API_KEY")
    }
    return Place(folder, {**environment, "FLEET_FLOWER_PASSWORD": PASSWORD})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = make_place(tmp_path_factory.mktemp("up"))
    process = place.start()
    try:
        place.await_healthy()
        yield place
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_status_shows_every_part_and_no_password(up: Place) -> None:
    shown = up.run("status", "--json")
    parts = {part["name"]: part for part in json.loads(shown.stdout)["parts"]}
    pools = {"pool codegen", "pool scanner", "pool perf"}
    kinds = {"access", "broker", "model", "sandbox", "beat", "flower", "ops"}
    assert parts.keys() == {*kinds, *pools}
    isolation = parts["sandbox"]["where"]
    assert json.loads(shown.stdout)["isolation"] == isolation in ("bubblewrap", "landlock")
    assert all(part["ok"] for part in parts.values())
    secret = up.run_file()["broker_url"].split("@")[0].rpartition(":")[2]
    assert secret not in shown.stdout + up.run("status").stdout


def test_other_commands_find_the_running_fleet_by_its_folder(up: Place) -> None:
    agents = json.loads(up.run("agents", "--json").stdout)
    assert {agent["pool"] for agent in agents} == {"codegen", "scanner", "perf"}


def test_a_second_fleet_in_the_folder_is_refused(up: Place) -> None:
    second = up.run("up")
    assert second.returncode == 1
    assert "already running in .fleet" in second.stderr
    assert up.run("status").returncode == 0


def test_flower_opens_with_its_password_alone(up: Place) -> None:
    url = up.run_file()["flower_url"]
    assert url.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
    request = urllib.request.Request(url)
    request.add_header("Authorization", "Basic " + b64encode(f"fleet:{PASSWORD}".encode()).decode())
    assert urllib.request.urlopen(request).status == 200


def test_the_ops_endpoint_shows_the_running_fleet(up: Place) -> None:
    url = up.run_file()["ops_url"]
    # Until beat has looked at the fleet, nothing is known.
    eventually(lambda: not http_problem(f"{url}/metrics"), 40, "metrics")
    with urllib.request.urlopen(f"{url}/scale/codegen") as answer:
        assert json.load(answer)["queued"] == 0
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'ai_agents{status="idle",type="code_generator"} 1.0' in metrics


def test_no_password_is_among_the_arguments_of_a_process(up: Place) -> None:
    run = up.run_file()
    secret = run["broker_url"].split("@")[0].rpartition(":")[2]
    arguments = [" ".join(process.cmdline()) for process in up.processes()]
    assert len(arguments) >= 7
    assert not [line for line in arguments if secret in line or PASSWORD in line]
    assert not [line for line in arguments if run["model_key"] in line]


def test_a_process_that_dies_is_started_again_and_the_fleet_goes_on(up: Place) -> None:
    before = {each.pid for each in up.processes()}
    (beat,) = [each for each in up.processes() if "beat" in each.cmdline()]
    beat.kill()
    eventually(lambda: "beat exited; restarting it" in up.log(), 10, "the news")

    def started_again() -> bool:
        return any("beat" in each.cmdline() for each in up.processes() if each.pid not in before)

    eventually(started_again, 20, "another beat")
    assert before - {each.pid for each in up.processes()} >= {beat.pid}
    assert running(up.folder / ".fleet") is not None


def test_tasks_outlive_down_and_no_process_outlives_a_kill(up: Place) -> None:
    """The last one of those that share the fleet."""
    payload = '{"source": "import pickle", "triage": false}'
    shown = up.run("submit", "security_analysis", payload, "--timeout", "60", "--json")
    task = json.loads(shown.stdout)
    assert task["state"] == "succeeded"
    _down(up)

    again = up.start()
    up.await_healthy()
    assert json.loads(up.run("task", task["id"], "--json").stdout) == task
    again.send_signal(signal.SIGKILL)
    again.wait()
    eventually(lambda: not up.processes(), 20, "the end of all processes")
    assert "no fleet is running" in up.run("down").stderr


def _down(place: Place) -> None:
    process = psutil.Process(place.run_file()["pid"])
    done = place.run("down")
    assert done.returncode == 0, done.stderr
    assert "stopped: broker, model, codegen.1" in done.stdout
    assert process.wait(timeout=10) == 0
    assert place.processes() == []
    assert not (place.folder / ".fleet" / "run.json").exists()
    # The workers left before the broker did: none lost it under their hands.
    log = place.log()
    assert log.index("perf.1 stopped") < log.index("sending SIGTERM to broker")
    assert "SIGKILL" not in log


NAPS = """
[agent_types.napper]
[pools.naps]
agent_type = "napper"
[request_types.nap]
agent_type = "napper"
"""


def test_down_waits_for_what_runs_and_says_so(
    place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "fleet.toml").write_text(NAPS)
    napper = Path(__file__).parent / "napper"
    monkeypatch.syspath_prepend(str(napper))
    place.environment["PYTHONPATH"] = os.pathsep.join((str(napper), str(ROOT)))
    place.environment["FLEET_MODEL_URL"] = "http://127.0.0.1:1/v1"
    process = place.start()
    request.addfinalizer(lambda: place.run("down"))
    eventually(lambda: "ready." in place.log(), START_SECONDS, "a worker")
    # Longer than the five seconds after which a process that was told to stop used to be killed.
    shown = place.run("submit", "nap", '{"seconds": 12}', "--json")
    task = json.loads(shown.stdout)["id"]

    def state() -> str:
        shown = place.run("task", task, "--json")
        # The broker may not answer yet.
        return str(json.loads(shown.stdout)["state"]) if shown.returncode == 0 else shown.stderr

    eventually(lambda: state() == "running", 20, "the nap to begin")
    done = place.run("down")
    assert done.returncode == 0, done.stderr
    assert f"waiting for running tasks: {task}" in done.stdout
    assert process.wait(timeout=10) == 0
    assert re.search(r"waiting at most .* for .*naps\.1.* to finish their tasks", place.log())
    assert "SIGKILL" not in place.log()
    place.start()
    eventually(lambda: running(place.folder / ".fleet") is not None, START_SECONDS, "another run")
    eventually(lambda: state() == "succeeded", START_SECONDS, "the broker with its data")
    assert json.loads(place.run("task", task, "--json").stdout)["attempts"] == 1


def test_a_process_that_dies_again_and_again_ends_the_fleet(place: Place) -> None:
    (place.folder / "Procfile").write_text("beat: exit 3\n")
    process = place.start()
    assert process.wait(timeout=90) == 1
    assert "because beat exited repeatedly (exit status 3)" in place.log()
    assert place.log().count("beat started") == 5
    assert place.processes() == []


def test_a_port_in_use_is_an_error_before_anything_starts(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = place.run("up", FLEET_MODEL_PORT=str(port))
    assert refused.returncode == 1
    assert f"FLEET_MODEL_PORT: port {port} cannot be used" in refused.stderr
    assert not (place.folder / ".fleet" / "run.json").exists()


def test_a_broker_that_is_away_is_an_error_before_anything_starts(place: Place) -> None:
    refused = place.run("up", FLEET_BROKER_URL="redis://:hush@127.0.0.1:1/0")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: Redis at 127.0.0.1:1 does not answer")
    assert refused.stdout == ""
    assert not (place.folder / ".fleet" / "run.json").exists()


def test_with_a_broker_and_a_key_neither_broker_nor_model_is_started(
    place: Place, valkey_url: str
) -> None:
    (place.folder / "Procfile").write_text("beat: exit 3\n")
    done = place.run_up(FLEET_BROKER_URL=valkey_url, OPENAI_API_KEY="sk-of-nobody")
    assert done.returncode == 1
    assert "note: broker: not started, FLEET_BROKER_URL names a broker" in done.stdout
    assert "note: model: not started" in done.stdout
    assert "codegen.1 started" in done.stdout
    assert "broker started" not in done.stdout
    assert "model started" not in done.stdout


def test_down_without_a_fleet_says_so(place: Place) -> None:
    down = place.run("down")
    assert down.returncode == 1
    assert "no fleet is running in .fleet" in down.stderr


def test_status_without_a_fleet_is_not_healthy(place: Place) -> None:
    shown = place.run("status", "--json", FLEET_BROKER_URL="redis://:hush@127.0.0.1:1/0")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["healthy"] is False
    assert "hush" not in shown.stdout
