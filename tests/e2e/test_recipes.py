"""Each recipe of docs/recipes.md does what it says, as a reader would type it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run_fleet
from harness import ROOT, Crew, eventually

PAGE = (ROOT / "docs" / "recipes.md").read_text()
RECIPES = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ASSIGNED = re.compile(r"(\w+)=\$\((.+)\)")


def typed(crew: Crew, command: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One `fleet ...`, with `$NAME` for what an earlier line has assigned."""
    words = [
        variables.get(word[1:], word) if word[:1] == "$" else word for word in shlex.split(command)
    ]
    assert words[0] == "fleet"
    environment = crew.processes.environment
    return run_fleet(*words[1:], folder=crew.processes.folder, environment=environment)


def shell(crew: Crew, script: str) -> str:
    """The output of a script's lines: `fleet ...`, `NAME=$(fleet ...)` and `A || B`."""
    variables: dict[str, str] = {}
    shown = ""
    for line in script.splitlines():
        if assigned := ASSIGNED.fullmatch(line):
            done = typed(crew, assigned[2], variables)
            variables[assigned[1]] = done.stdout.strip()
        else:
            for command in line.split(" || "):
                done = typed(crew, command, variables)
                shown += done.stdout
                if done.returncode == 0:
                    break
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return shown


def python(crew: Crew, text: str, folder: Path) -> str:
    script = folder / "recipe.py"
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=crew.processes.folder,
        env=crew.processes.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_ten_recipes_and_each_shows_its_output() -> None:
    assert len(RECIPES) == 10
    for recipe in RECIPES.values():
        assert [language for language, _ in BLOCK.findall(recipe)] in (
            ["python", "text"],
            ["sh", "text"],
        )


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_it_says(crew: Crew, tmp_path: Path, title: str) -> None:
    (language, script), (_, expected) = BLOCK.findall(RECIPES[title])
    if "fleet spend" in script:
        # An earlier recipe has asked the model, and did not wait for the answer.
        eventually(lambda: shell(crew, "fleet ledger show --json") != "[]\n", 150, "a model call")
    shown = python(crew, script, tmp_path) if language == "python" else shell(crew, script)
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        assert re.search(f"^{pattern}$", shown, re.MULTILINE), f"{line!r} is not in:\n{shown}"


def test_nothing_of_the_recipes_is_left_behind(crew: Crew) -> None:
    """What the recipe of the dead letters has submitted again fails too, and is dropped."""

    def ended() -> bool:
        return all(record.has_ended or record.state == "delayed" for record in crew.fleet.tasks(20))

    eventually(ended, 60, "the end of all tasks")
    done = run_fleet(
        *("dead", "drop", "--all", "--error", "NotAllowed"),
        folder=crew.processes.folder,
        environment=crew.processes.environment,
    )
    assert done.returncode == 0, done.stderr
