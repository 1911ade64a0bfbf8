"""The workflows of GitHub: every action by digest, every step one that exists."""

from __future__ import annotations

import re
import subprocess
import sys
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
