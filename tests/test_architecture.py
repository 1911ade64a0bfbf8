"""The layers hold, and each package has its place among them."""

from __future__ import annotations

import configparser
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def contracts() -> dict[str, str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {
        name: config[name].get("layers", "")
        for name in config.sections()
        if name.startswith("importlinter:contract:")
    }


def test_the_import_contracts_are_kept() -> None:
    assert lint_imports(config_filename=str(ROOT / "setup.cfg"), no_cache=True) == 0


def test_only_the_runtime_imports_celery() -> None:
    outside = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "fleet").rglob("*.py")
        if "runtime" not in path.parts
        and any(
            line.startswith(("import celery", "from celery", "import kombu", "from kombu"))
            for line in path.read_text().splitlines()
        )
    ]
    assert outside == []


def test_the_top_level_is_the_agreed_one() -> None:
    agreed = {
        "fleet", "workers", "beat_schedules", "charts", "tests", "setup.cfg", "requirements.txt",
        "requirements-model.txt", "Procfile", "README.md", "pyproject.toml", "Makefile", "Dockerfile",
        "benchmarks", "docs", "examples", "CHANGELOG.md", "build", "dist",
    }  # fmt: skip
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.suffix != ".egg-info"
    }
    assert found - agreed == set()
