"""Each error and each complaint leads a reader to a section that exists."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from fleet import errors
from fleet.cli.main import main
from fleet.cli.output import TROUBLESHOOTING, more_about
from fleet.errors import FleetError
from fleet.operations import health

ROOT = Path(__file__).parents[2]
HEADINGS = re.findall(r"^## (.+)$", (ROOT / TROUBLESHOOTING).read_text(), re.MULTILINE)
ANCHORS = {heading.lower().replace(" ", "-") for heading in HEADINGS}

CLASSES = [
    found.__name__
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, FleetError)
]


def parts_of_status() -> set[str]:
    """The first word of each part that `fleet status` may show, as its source spells it."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(health))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Part"
        ):
            name = node.args[0]
            first = name.values[0] if isinstance(name, ast.JoinedStr) else name
            assert isinstance(first, ast.Constant)
            found.add(first.value.split()[0])
    return found


def test_every_class_of_errors_and_every_part_of_the_status_has_its_section() -> None:
    kinds = [*CLASSES, *(f"status {part}" for part in parts_of_status())]
    assert {more_about(kind) for kind in kinds} == {f"more: {TROUBLESHOOTING}#{a}" for a in ANCHORS}


def test_an_error_on_the_command_line_points_to_its_section(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fleet", "tasks", "--state", "asleep"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"more: {TROUBLESHOOTING}#invalid-request"
