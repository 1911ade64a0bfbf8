"""What is heavy, and what few processes need, is imported where it is first used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"openai", "pydantic_ai", "genai_prices", "pyarrow", "matplotlib", "anthropic", "boto3"}
SAY_MODULES = "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"


@pytest.mark.parametrize("code", ["from fleet import Fleet", "import workers.app"])
def test_what_starts_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "FLEET_" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", code + SAY_MODULES],
        cwd=tmp_path,
        env=environment | {"FLEET_POOL": "codegen"},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(ended.stdout.split())
    assert "fleet" in loaded
    assert loaded & HEAVY == set()


def test_a_model_call_finds_the_clients() -> None:
    from fleet.models.callers import load_clients

    assert load_clients().__name__ == "ModelCaller"
    assert "openai" in sys.modules
