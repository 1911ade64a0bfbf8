"""The workflows of GitHub: every action by digest, every step one that exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DEPLOY = ROOT / ".ci" / "deploy"
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v?\d+\.\d+\.\d+$")


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def text(request: pytest.FixtureRequest) -> str:
    return str(request.param.read_text())


def jobs(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())["jobs"]
    return found


def test_every_action_is_pinned_by_digest_and_says_its_version(text: str) -> None:
    used = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses: " in line]
    assert used
    own = [line for line in used if line.startswith("uses: ./.github/workflows/")]
    assert [line for line in used if line not in own and not PINNED.fullmatch(line)] == []


def test_no_job_has_more_rights_than_it_names(text: str) -> None:
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    assert all("permissions" in job for job in workflow["jobs"].values())


def test_tests_run_on_each_python_that_is_supported() -> None:
    matrix = jobs("test.yml")["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_each_step_of_a_deployment_exists(text: str) -> None:
    steps = set(re.findall(r"\.ci/deploy (\w+)", text))
    known = set(re.findall(r"^  (\w+)\)$", DEPLOY.read_text(), re.MULTILINE))
    assert steps <= known


def test_production_is_switched_after_the_watch_and_rolled_back_when_it_fails() -> None:
    steps = jobs("release.yml")["production"]["steps"]
    runs = [step.get("run", "") for step in steps]
    order = [run.split()[1] for run in runs if run.startswith(".ci/deploy")]
    assert order == [
        *("prepare", "colours", "upgrade", "health", "smoke", "watch", "switch"),
        *("remove", "remove"),
    ]
    assert runs[-2:] == ['.ci/deploy remove "$OLD"', '.ci/deploy remove "$NEW"']
    assert "failure()" in steps[-1]["if"] and "steps.switch.outcome" in steps[-1]["if"]


def test_the_script_of_the_deployment_is_one_that_bash_can_read() -> None:
    found = subprocess.run(["bash", "-n", DEPLOY], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_script_of_the_deployment_refuses_an_unknown_step() -> None:
    found = subprocess.run([DEPLOY, "fly"], capture_output=True, text=True)
    assert found.returncode == 2
    assert "fly: no such step" in found.stderr


@dataclass
class Deployment:
    """`.ci/deploy` with a kubectl and a helm that note how they are called."""

    folder: Path
    live: str = ""

    def run(self, *step: str) -> str:
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        for name, answer in (("kubectl", self.live), ("helm", "")):
            note = f'printf "%s\\n" "{name} $*" >> "{self.calls}"'
            (tools / name).write_text(f"#!/bin/sh\n{note}\nprintf '%s' '{answer}'\n")
            (tools / name).chmod(0o755)
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.folder),
            "GITHUB_ENV": str(self.folder / "env"),
            "IMAGE": "registry.example.com/fleet@sha256:1",
            "DIGEST": "sha256:1",
            "VERSION": "v1.2.3",
            "KUBECONFIG_TEXT": "secret",
            "VALUES": "logLevel: debug",
        }
        found = subprocess.run([DEPLOY, *step], capture_output=True, text=True, env=environment)
        assert found.returncode == 0, found.stderr
        return self.calls.read_text() if self.calls.exists() else ""

    @property
    def calls(self) -> Path:
        return self.folder / "calls"

    @property
    def variables(self) -> str:
        return (self.folder / "env").read_text()


@pytest.mark.parametrize(
    ("live", "new"),
    [("", "fleet-blue"), ("fleet-blue", "fleet-green"), ("fleet-green", "fleet-blue")],
)
def test_the_new_colour_is_the_one_that_is_not_live(tmp_path: Path, live: str, new: str) -> None:
    deployment = Deployment(tmp_path, live)
    deployment.run("colours")
    assert deployment.variables == f"NEW={new}\nOLD={live}\n"


def test_the_image_is_deployed_by_its_digest(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    deployment.run("prepare")
    assert (tmp_path / "deploy" / "kubeconfig").stat().st_mode & 0o077 == 0
    called = deployment.run("upgrade", "fleet-green")
    assert "image.repository=registry.example.com/fleet " in called
    assert "image.digest=sha256:1" in called
    assert "--rollback-on-failure" in called
    called = deployment.run("watch", "fleet-green")
    assert "exec deploy/fleet-green-beat -- fleet deploy watch --version v1.2.3" in called


def test_nothing_is_removed_where_there_was_no_old_colour(tmp_path: Path) -> None:
    assert Deployment(tmp_path).run("remove", "") == ""


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_of_the_image_asks_the_ops_endpoint(status: int, code: int) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    text = (ROOT / "Dockerfile").read_text()
    (command,) = re.findall(r"HEALTHCHECK .*? CMD (.*?)\nENTRYPOINT", text, re.DOTALL)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = subprocess.run(
            ["sh", "-c", command.replace("\\\n", "")],
            env={
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "FLEET_OPS_PORT": str(server.server_port),
            },
            stderr=subprocess.DEVNULL,
        )
        server.shutdown()
    assert found.returncode == code


def test_zizmor_finds_nothing() -> None:
    zizmor, config = Path(sys.executable).with_name("zizmor"), ROOT / ".ci/zizmor.yml"
    command = [zizmor, "--offline", "--no-progress", "--config", config]
    found = subprocess.run([*command, *WORKFLOWS], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_image_installs_only_what_is_locked_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text()
    build, last = text.split("\nFROM ${PYTHON}\n")
    assert "--require-hashes" in build and "--only-binary :all:" in build
    assert "USER 1000:1000" in last and "HEALTHCHECK" in last
    assert not re.search(r"apt-get|pip install|gcc|build-essential", last)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", build, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in " ".join(copied).split():
        assert f"!{name}" in ignored, name
        assert (ROOT / name).exists(), name
