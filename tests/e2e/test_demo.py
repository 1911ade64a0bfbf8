"""`fleet demo`, as `make demo` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from commands import run_fleet
from harness import ROOT
from missing import need_weights

HEADINGS = ("Starting a fleet", "Submitting tasks", "Results", "Cost", "Next steps")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    need_weights()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLEET_")}
    return {
        **{name: value for name, value in kept.items() if not name.endswith("_API_KEY")},
        "FLEET_DATA_DIR": str(tmp_path / "data"),
    }


@pytest.mark.timeout(300)
def test_the_demo_does_real_work_shows_it_and_leaves_nothing_running(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "demo"],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    shown = done.stdout
    assert done.returncode == 0, shown + done.stderr
    for heading in HEADINGS:
        assert heading in shown
    assert "\x1b" not in shown
    assert "its tests passed" in shown
    assert "examples/vulnerable_app/shop/" in shown
    assert "build a set is" in shown and "times as fast as compare pairs" in shown
    assert "$0 for" in shown
    (plot,) = (tmp_path / "data" / "demo").iterdir()
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert _given(environment["FLEET_DATA_DIR"]) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_burst_makes_the_pool_grow_and_loses_repeats_and_cuts_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "FLEET_" not in name}
    environment["FLEET_DATA_DIR"] = str(tmp_path / "data")
    plot = tmp_path / "burst.png"
    done = subprocess.run(
        [sys.executable, "-m", "fleet", "demo", "--load", "burst", "--bursts", "1", "--plot", plot],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 workers at most" in done.stdout
    assert "60 tasks submitted, 0 lost" in done.stdout
    assert "0 run twice" in done.stdout
    assert "0 runs cut, 2 workers ended, 0 killed" in done.stdout
    assert "from a burst to the first new worker ready: p95" in done.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert _given(str(tmp_path / "data" / "demo" / "burst" / "data")) == []


def test_a_load_that_there_is_not_is_refused(tmp_path: Path) -> None:
    refused = run_fleet("demo", "--load", "flood", folder=tmp_path)
    assert refused.returncode == 2
    assert "no load is called 'flood'; use one of: burst" in refused.stderr


def _given(data_dir: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FLEET_DATA_DIR") == data_dir:
                found.append(process)
        except psutil.Error:
            continue
    return found
