"""The scripts themselves: each is used, says what it does, and gives its arguments names."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import redis

from fleet.redis.scripts import NAMES, Scripts, source

FOLDER = Path(str(files("fleet.redis"))) / "lua"
PARTS = sorted(path.stem for path in (FOLDER / "parts").glob("*.lua"))
COMMENT = re.compile(r"--.*$", re.MULTILINE)
GIVEN = re.compile(r"\b(?:KEYS|ARGV)\b")
COUNTED = re.compile(r"\b(?:KEYS|ARGV|keys|arguments)\s*\[")


def code(path: Path) -> str:
    """A script without its comments, and so without its parts."""
    return COMMENT.sub("", path.read_text()).strip()


def test_every_script_file_is_registered() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.lua"))


def test_every_script_is_used() -> None:
    root = FOLDER.parents[1]
    code = "".join(path.read_text() for path in root.rglob("*.py"))
    unused = [name for name in NAMES if f"scripts.{name}(" not in code]
    assert unused == []


def test_every_part_is_included() -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("*.lua"))
    assert set(re.findall(r"^-- include (\w+)$", text, re.MULTILINE)) == set(PARTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_scripts_head_states_keys_arguments_answer_and_invariant(name: str) -> None:
    head = source(name).split("\n\n")[0]
    for word in ("KEYS", "ARGV", "Returns", "Invariant"):
        assert word in head, f"{name}: {word} in {head}"


@pytest.mark.parametrize("name", NAMES)
def test_a_script_names_its_arguments_first_and_counts_no_positions(name: str) -> None:
    names, _, body = code(FOLDER / f"{name}.lua").partition("\n\n")
    assert GIVEN.search(names), f"{name}.lua names nothing"
    assert GIVEN.findall(body) == [], f"{name}.lua uses KEYS or ARGV after its first lines"
    assert COUNTED.findall(names + body) == []


@pytest.mark.parametrize("name", PARTS)
def test_a_part_knows_no_positions_of_a_script(name: str) -> None:
    text = code(FOLDER / "parts" / f"{name}.lua")
    assert GIVEN.findall(text) + COUNTED.findall(text) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_called_in_one_module(name: str) -> None:
    root = FOLDER.parents[1]
    callers = [
        f"{path.relative_to(root)}"
        for path in sorted(root.rglob("*.py"))
        for _ in re.findall(rf"(?<!`)scripts\.{name}\(", path.read_text())
    ]
    assert len(set(callers)) == 1, callers


def test_every_script_compiles(client: redis.Redis) -> None:
    scripts = Scripts(client)
    for name in NAMES:
        assert client.script_load(source(name)) == getattr(scripts, name).sha
