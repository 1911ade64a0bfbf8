"""The scripts themselves: each is used, and each says what it does."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import redis

from fleet.redis.scripts import NAMES, Scripts, source

FOLDER = Path(str(files("fleet.redis"))) / "lua"


def test_every_script_file_is_registered() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in FOLDER.glob("*.lua"))


def test_every_script_is_used() -> None:
    root = FOLDER.parents[1]
    code = "".join(path.read_text() for path in root.rglob("*.py"))
    unused = [name for name in NAMES if f"scripts.{name}(" not in code]
    assert unused == []


@pytest.mark.parametrize("name", NAMES)
def test_a_scripts_head_states_keys_arguments_answer_and_invariant(name: str) -> None:
    head = source(name).split("\n\n")[0]
    for word in ("KEYS", "ARGV", "Returns", "Invariant"):
        assert word in source(name).partition("\nlocal")[0], f"{name}: {word} in {head}"


def test_every_script_compiles(client: redis.Redis) -> None:
    scripts = Scripts(client)
    for name in NAMES:
        assert client.script_load(source(name)) == getattr(scripts, name).sha
