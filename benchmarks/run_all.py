"""Runs every benchmark of this folder and writes RESULTS.md from their last lines.

Each runs as it does by hand, one after the other, with its output shown. One that fails is
named in the results, the others run all the same, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
NO_BENCHMARKS = {"report.py", "run_all.py"}


@dataclass(frozen=True)
class Outcome:
    """What one benchmark came to: its figures, or why there are none."""

    name: str
    figures: Mapping[str, Any]
    problem: str = ""


def main() -> int:
    """Run all; 1 where one failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end soon, less exactly")
    parser.add_argument("--data", metavar="FOLDER", help="the folder with the shared data")
    parser.add_argument(
        "--before", metavar="WORKTREE", help="a folder with another version and its .venv"
    )
    parser.add_argument(
        "--rivals", action="store_true", help="install other task queues, and compare with them"
    )
    given = parser.parse_args()
    options = {
        "--quick": ["--quick"] if given.quick else [],
        "--data": ["--data", given.data] if given.data else [],
        "--before": ["--before", given.before] if given.before else [],
        "--rivals": ["--rivals"] if given.rivals else [],
    }
    outcomes = [run(script, options) for script in scripts()]
    RESULTS.write_text(report(outcomes, given.quick), encoding="utf-8")
    print(f"\nwritten: {RESULTS.relative_to(HERE.parent)}")
    return int(any(outcome.problem for outcome in outcomes))


def scripts() -> list[Path]:
    return sorted(path for path in HERE.glob("*.py") if path.name not in NO_BENCHMARKS)


def run(script: Path, options: Mapping[str, list[str]]) -> Outcome:
    """Run one benchmark, show what it prints, and take the figures of its last line."""
    print(f"\n== {script.name}", flush=True)
    command = [sys.executable, str(script), *understood(options, usage(script))]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    if process.returncode:
        return Outcome(script.name, {}, f"failed with exit status {process.returncode}")
    return parsed(script.name, last)


def usage(script: Path) -> str:
    """What a benchmark says of its options."""
    command = [sys.executable, str(script), "--help"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def understood(options: Mapping[str, list[str]], usage: str) -> list[str]:
    """The arguments of those options that a benchmark knows."""
    known = set(re.findall(r"(?<!\S)\[?(--[a-z]+)(?![\w-])", usage))
    return [part for option, given in options.items() if option in known for part in given]


def parsed(name: str, line: str) -> Outcome:
    try:
        figures = json.loads(line)
    except ValueError:
        figures = None
    if not isinstance(figures, dict):
        return Outcome(name, {}, f"its last line is no JSON object: {line[:80]}")
    return Outcome(name, figures)


def report(outcomes: list[Outcome], quick: bool) -> str:
    """The results as Markdown: where they were taken, and a table of every figure."""
    kind = "Quick runs, with a wide spread" if quick else "Full runs"
    lines = [
        "# Results of the benchmarks",
        "",
        f"Written by `make bench`. {kind}, {datetime.now(UTC):%Y-%m-%d}, Python "
        f"{platform.python_version()} on {platform.system()} {platform.machine()} with "
        f"{os.cpu_count()} cores. What a figure means is said at the head of its benchmark.",
        "",
        "| benchmark | figure | value |",
        "|---|---|---|",
        *(row for outcome in outcomes for row in rows(outcome)),
    ]
    return "\n".join(lines) + "\n"


def rows(outcome: Outcome) -> Iterator[str]:
    if outcome.problem:
        yield f"| {outcome.name} | {outcome.problem} | |"
    for figure, value in outcome.figures.items():
        yield f"| {outcome.name} | `{figure}` | {value} |"


if __name__ == "__main__":
    sys.exit(main())
