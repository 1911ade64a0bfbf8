"""What the throughput benchmark computes, counts and says, without any process of a side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from run_all import understood  # noqa: E402
from throughput_parts.crew import Crew  # noqa: E402
from throughput_parts.figures import absent, keyed, share_of_ideal, to_each  # noqa: E402
from throughput_parts.measure import surplus  # noqa: E402
from throughput_parts.rivals import RIVALS, run  # noqa: E402
from throughput_parts.sides import Shape, environment, sides  # noqa: E402
from throughput_parts.tallies import Tallies  # noqa: E402

SHAPE = Shape(processes=2, threads=8)


def test_the_share_of_the_ideal_is_one_when_every_slot_always_waits() -> None:
    assert share_of_ideal(160, 0.05, slots=16, took=0.5) == pytest.approx(1)
    assert share_of_ideal(160, 0.05, slots=16, took=0.625) == pytest.approx(0.8)


def test_ratios_are_taken_round_by_round() -> None:
    samples = {"Fleet": [100.0, 300.0], "celery": [50.0, 100.0]}
    assert to_each(samples, "Fleet") == {"celery": [2.0, 3.0]}


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        to_each({"Fleet": [1.0, 2.0], "celery": [1.0]}, "Fleet")


def test_figures_have_names_that_fit_into_the_last_line() -> None:
    assert keyed("empty_to_", {"celery, results kept": 1.5}) == {
        "empty_to_celery_results_kept": 1.5
    }


def test_a_rival_that_is_left_out_is_named_with_the_reason() -> None:
    assert absent(False, ("huey",), {}) == {"huey": "not asked for; add --rivals"}
    assert absent(True, ("huey", "taskiq"), {"huey": "no network"}) == {
        "huey": "could not be installed: no network"
    }


def test_a_command_that_fails_gives_the_last_line_of_what_it_said() -> None:
    script = "import sys; print('first', file=sys.stderr); sys.exit('no such version')"
    assert run(sys.executable, "-c", script) == "no such version"
    assert run(sys.executable, "-c", "import sys; sys.exit(3)").endswith("ended with status 3")
    assert run(sys.executable, "-c", "print('fine')") == ""


def test_every_version_of_a_rival_is_fixed() -> None:
    packages = [package for packages in RIVALS.values() for package in packages]
    assert [package for package in packages if package.count("==") != 1] == []


def test_every_side_runs_as_many_tasks_at_once() -> None:
    for side in sides(SHAPE, tuple(RIVALS)):
        one_each = len(side.workers) == SHAPE.processes
        words = [word for worker in side.workers for word in worker]
        assert one_each or str(SHAPE.processes) in words
        # Fleet's worker reads it from the configuration.
        assert side.name == "Fleet" or str(SHAPE.threads) in words


def test_settings_from_outside_do_not_reach_a_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_LOG_LEVEL", "debug")
    monkeypatch.setenv("FLEET_MODEL_URL", "http://elsewhere")
    ours, theirs, with_results = sides(SHAPE, ())
    given = environment(ours, SHAPE, tmp_path, "redis://127.0.0.1:1/3")
    assert "FLEET_MODEL_URL" not in given
    assert given["FLEET_LOG_LEVEL"] == "warning"
    assert given["FLEET_BROKER_URL"] == "redis://127.0.0.1:1/3"
    assert "IDLER_RESULTS" not in environment(theirs, SHAPE, tmp_path, "")
    assert environment(with_results, SHAPE, tmp_path, "")["IDLER_RESULTS"]


def test_a_count_is_the_size_of_the_files_of_all_processes(tmp_path: Path) -> None:
    tallies = Tallies(tmp_path / "side")
    assert tallies.total() == 0
    (tallies.folder / "101").write_bytes(b"...")
    (tallies.folder / "102").write_bytes(b".")
    assert tallies.total() == 4
    assert sorted(tallies.by_process()) == [1, 3]


def test_what_ran_twice_is_counted_by_side_and_slots(tmp_path: Path) -> None:
    ours = sides(SHAPE, ())[0]
    crew = Crew(ours, SHAPE, tmp_path, "redis://127.0.0.1:1/0")
    crew.sent = 3
    (crew.tallies.folder / "101").write_bytes(b".....")
    assert surplus({"Fleet": crew}) == {"Fleet in 16 slots": 2}


def test_a_benchmark_is_given_only_the_options_that_it_knows() -> None:
    options = {"--quick": ["--quick"], "--data": ["--data", "folder"], "--rivals": ["--rivals"]}
    usage = "usage: x.py [-h] [--quick] [--data FOLDER]\n\n  --rivals-of-old is no option\n"
    assert understood(options, usage) == ["--quick", "--data", "folder"]
