"""The layers hold, and each package has its place among them."""

from __future__ import annotations

from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


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
    packages = "fleet workers beat_schedules charts tests benchmarks docs examples findings"
    files = (
        "setup.cfg requirements.txt requirements-model.txt Procfile README.md pyproject.toml "
        "Makefile Dockerfile CHANGELOG.md AGENTS.md"
    )
    agreed = {*packages.split(), *files.split(), "build", "dist"}
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and path.suffix != ".egg-info"
    }
    assert found - agreed == set()
