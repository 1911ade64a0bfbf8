"""The examples do what they say, as a reader would run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, Crew, Processes

from fleet import Fleet
from fleet.errors import InvalidRequest
from fleet.settings import parse_config

EXAMPLES = ROOT / "examples"
OWN_AGENT = EXAMPLES / "own_agent"

TEXT = (
    "Celery hands work from an application to workers over a message broker. An application "
    "sends a message, and any worker that listens on its queue takes it, runs the function that "
    "the message names, and stores what came of it. Queues let slow work wait without keeping "
    "anybody from going on, and more workers take more messages at once. A worker that dies "
    "loses what it held unless the message is acknowledged only after the work is done."
)


TITLES = """
[agent_types.titler]

[pools.titles]
agent_type = "titler"

[request_types.title]
agent_type = "titler"
"""


def run(crew: Crew, script: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=crew.processes.folder,
        env={**crew.processes.environment, **variables},
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_the_python_example_submits_waits_and_shows_decisions_and_results(crew: Crew) -> None:
    done = run(crew, EXAMPLES / "submit.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pool codegen, model smollm2-135m-instruct" in done.stdout
    assert "verified" in done.stdout
    assert "def add(a, b):" in done.stdout
    assert "high CWE-78 line 5:" in done.stdout


def test_the_python_example_says_in_a_sentence_that_nothing_runs(crew: Crew) -> None:
    done = run(crew, EXAMPLES / "submit.py", FLEET_NAMESPACE="deserted")
    assert done.returncode == 1
    said = "no agent is available: no pool that serves code_generator takes tasks now"
    assert done.stderr.startswith(said)


def test_the_celery_example_sends_a_task_and_gets_its_result(crew: Crew) -> None:
    done = run(crew, EXAMPLES / "plain_celery.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "session.py:5 B301 pickle" in done.stdout
    explained = done.stdout.rsplit(" ", 1)[1].strip()
    assert crew.fleet.task(explained).decision.pool == "scanner"


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "line", "shown"),
    [
        ("README.md", "print(result.verified)", "True"),
        ("docs/from-celery.md", "print(sent.status)", "SUCCESS"),
    ],
)
def test_the_first_program_of_a_page_runs_as_it_stands(
    crew: Crew, tmp_path: Path, page: str, line: str, shown: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(f"{blocks(page, 'python')[0]}\n{line}\n")
    done = run(crew, script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == shown


def test_the_pools_of_the_guide_are_right() -> None:
    (text,) = blocks("docs/guide.md", "toml")
    pools = parse_config(text, "guide.md").pools
    assert {name: pool.execution for name, pool in pools.items()} == {
        "codegen": "threads",
        "scanner": "prefork",
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the example's package."""
    folder = tmp_path_factory.mktemp("own_agent")
    # Building leaves files behind, so it is done on a copy.
    source = shutil.copytree(OWN_AGENT, folder / "source")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", "site"]
    command = [sys.executable, "-m", "pip", "install", *options, str(source)]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    _install_the_readmes_agent(folder / "site")
    return folder / "site"


def _install_the_readmes_agent(site: Path) -> None:
    """The README's agent as a distribution, with the entry point that its package would have."""
    (site / "titler.py").write_text(blocks("README.md", "python")[1])
    announced = site / "titler-1.0.dist-info"
    announced.mkdir()
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: titler\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[fleet.agents]\ntitler = titler:SPEC\n")


@pytest.fixture(scope="module")
def summaries(
    crew: Crew, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    """A second fleet on the same broker and model, of the example's pool and the README's agent."""
    folder = tmp_path_factory.mktemp("summaries")
    (folder / "fleet.toml").write_text((OWN_AGENT / "fleet.toml").read_text() + TITLES)
    variables = {
        "FLEET_NAMESPACE": "summaries",
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "PYTHONPATH": os.pathsep.join((str(installed), str(ROOT))),
    }
    processes = Processes(folder, {**crew.processes.environment, **variables})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in processes.environment.items():
            if name.startswith("FLEET_"):
                patch.setenv(name, value)
        patch.syspath_prepend(str(installed))
        other = Crew(Fleet.from_env(), processes)
        try:
            other.start_worker("summaries")
            other.start_worker("titles")
            yield other
        finally:
            processes.stop_all()


def test_an_agent_of_ones_own_is_found_by_its_entry_point_and_does_its_work(
    summaries: Crew,
) -> None:
    task = summaries.fleet.submit("summary", {"text": TEXT, "max_words": 30})
    result: Any = task.result(timeout=120)
    assert type(result).__name__ == "SummaryResult"
    assert 0 < result.words <= 30
    assert task.decision.pool == "summaries"
    assert task.record().output_tokens > 0


def test_the_agent_of_the_readme_does_its_work(summaries: Crew) -> None:
    task = summaries.fleet.submit("title", {"text": TEXT})
    result: Any = task.result(timeout=120)
    assert result.title
    assert task.record().output_tokens <= 20


def test_an_agent_of_ones_own_works_from_the_command_line(summaries: Crew) -> None:
    command = [sys.executable, "-m", "fleet", "submit", "summary", "--wait", "--json"]
    done = subprocess.run(
        [*command, "--set", f"text={TEXT}"],
        cwd=summaries.processes.folder,
        env=summaries.processes.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["result"]["summary"]


def test_a_payload_that_does_not_suit_ones_own_agent_is_refused_before_it_is_sent(
    summaries: Crew,
) -> None:
    with pytest.raises(InvalidRequest, match="max_words"):
        summaries.fleet.submit("summary", {"text": TEXT, "max_words": 0})


def test_the_continuous_build_runs_the_readers_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == [
        "set -euo pipefail",
        'cd "$(dirname "${BASH_SOURCE[0]}")/.."',
        "export CI=true",
        "make test",
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
