"""Without the packages of an extra its commands say which extra they need, and the rest works."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run_fleet

from fleet.errors import InvalidConfig
from fleet.ledger.exports import export
from fleet.ledger.files import LedgerFiles
from workers.performance_tester.plot import plot_png_base64


@pytest.fixture
def no_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


@pytest.mark.usefixtures("no_matplotlib")
@pytest.mark.parametrize(
    "command", [("simulate", "--synthetic", "--tasks", "10"), ("spend", "--days", "7")]
)
def test_a_plot_without_matplotlib_names_the_extra(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    ended = run_fleet(*command, "--plot", "waits.png", folder=tmp_path)
    assert ended.returncode == 2
    assert "a plot needs packages that are not installed here" in ended.stderr
    assert "pip install 'fleet[plots]'" in ended.stderr
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.usefixtures("no_matplotlib")
def test_a_performance_test_without_matplotlib_has_no_plot() -> None:
    assert plot_png_base64([], [np.array([1.0])], 0.95) == ""


@pytest.mark.usefixtures("no_arrow")
def test_a_parquet_export_without_pyarrow_names_the_extra(tmp_path: Path) -> None:
    ended = run_fleet(
        *("ledger", "export", "--format", "parquet", "-o", "all.parquet"), folder=tmp_path
    )
    assert ended.returncode == 2
    assert "pip install 'fleet[parquet]'" in ended.stderr
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.usefixtures("no_arrow")
def test_the_archive_without_pyarrow_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"fleet\[parquet\]"):
        next(LedgerFiles(tmp_path).read("2026-11-01/1-0_2-0.parquet"))


@pytest.mark.usefixtures("no_arrow")
def test_other_exports_need_no_pyarrow() -> None:
    output = io.BytesIO()
    assert export([], "csv", None, output) == 0
    assert output.getvalue().startswith(b"time,")
