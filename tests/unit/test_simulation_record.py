"""Recorded tasks from a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.cli.simulate import parse_pairs
from fleet.errors import InvalidRequest
from fleet.simulation.record import CsvTask, from_csv
from fleet.simulation.rules.replay import PastTask

HEAD = "submitted,request_type,run_seconds,good,complexity,cost_usd\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.csv"


def test_an_empty_cell_says_nothing(file: Path) -> None:
    file.write_text(HEAD + "1.5,nap,2,,,\n3,nap,0.25,0,0.7,0.0000000015\n")
    assert from_csv(file) == [
        PastTask(1.5, "nap", 2.0),
        PastTask(3.0, "nap", 0.25, good=False, complexity=0.7, cost_nanodollars=2),
    ]


def test_a_file_of_a_spreadsheet_with_its_mark_is_read(file: Path) -> None:
    file.write_text("submitted,request_type,run_seconds\r\n1,nap,2\r\n", encoding="utf-8-sig")
    assert from_csv(file) == [PastTask(1.0, "nap", 2.0)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: has no column submitted"),
        ("submitted,request_type\n", "line 1: has no column run_seconds"),
        (HEAD, "has no tasks"),
        ("submitted,request_type,run_seconds,colour\n1,nap,1,red\n", "line 1: column 'colour'"),
        (HEAD + "1,nap,2,1,0.5,0\nsoon,nap,2,1,0.5,0\n", "line 3: column submitted: 'soon'"),
        (HEAD + "1,nap,-2,1,0.5,0\n", "line 2: column run_seconds: '-2'"),
        (HEAD + "1,nap,nan,1,0.5,0\n", "line 2: column run_seconds: 'nan'"),
        (HEAD + "1,nap,2,1,1.5,0\n", "line 2: column complexity: '1.5'"),
        (HEAD + "1,nap,2,maybe,0.5,0\n", "line 2: column good: 'maybe'"),
        (HEAD + "1,,2,1,0.5,0\n", "line 2: column request_type is empty"),
        (HEAD + "1,nap,2\n", "line 2: has another number of columns"),
        (HEAD + "1,nap,2,1,0.5,0,9\n", "line 2: has another number of columns"),
    ],
)
def test_a_fault_names_its_line_and_column(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=says) as refused:
        from_csv(file)
    assert str(file) in str(refused.value)


def test_a_file_that_is_no_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="not a CSV file in UTF-8"):
        from_csv(file)


def test_the_help_names_every_column() -> None:
    shown = " ".join(CliRunner().invoke(app, ["simulate", "--help"]).output.split())
    assert all(name in shown for name in CsvTask.model_fields)


def test_pairs_are_separated_by_commas() -> None:
    assert parse_pairs("--mix", "a=1, b=0.5") == {"a": 1.0, "b": 0.5}
    assert parse_pairs("--mix", "") == {}
    with pytest.raises(InvalidRequest, match=r"--mix: 'b' is not NAME=NUMBER"):
        parse_pairs("--mix", "a=1,b")
