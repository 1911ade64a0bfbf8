"""How every benchmark here measures and reports: interleaved rounds, a table, one last line.

A case is a function without arguments that does one round and returns its figure. The
rounds of all cases take turns, so that a slow moment of the machine falls on all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Case = Callable[[], float]
Samples = Mapping[str, list[float]]


def arguments(
    description: str, *, data: bool = False, before: bool = False
) -> argparse.Namespace:
    """Parse `--quick`, and where the benchmark knows them `--data FOLDER` and `--before WORKTREE`.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="end within 30 s, less exactly")
    if data:
        parser.add_argument("--data", metavar="FOLDER", help="the folder with the shared data")
    if before:
        parser.add_argument(
            "--before", metavar="WORKTREE", help="a folder with another version and its .venv"
        )
    return parser.parse_args()


def timed(function: Callable[[], object], calls: int) -> Case:
    """A case that calls `function` so many times and returns microseconds a call."""

    def round_() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls * 1e6

    return round_


def interleaved(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Every case's figures, one a round. A first round warms up and is not counted."""
    samples: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            figure = case()
            if number:
                samples[name].append(figure)
    return samples


def medians(samples: Samples) -> dict[str, float]:
    """Each case's median, to four significant digits."""
    return {name: float(f"{statistics.median(figures):.4g}") for name, figures in samples.items()}


def show(title: str, samples: Samples) -> None:
    """Print a table of the median, the middle half and the extremes of each case."""
    width = max(map(len, samples))
    print(f"\n{title}")
    print(f"{'':{width}}  {'median':>10}  {'middle half':>23}  {'min':>10}  {'max':>10}  rounds")
    for name, figures in samples.items():
        low, middle, high = _quartiles(figures)
        print(
            f"{name:{width}}  {middle:>10.4g}  {low:>10.4g} - {high:>10.4g}  "
            f"{min(figures):>10.4g}  {max(figures):>10.4g}  {len(figures):>6}"
        )


def finish(figures: Mapping[str, Any]) -> None:
    """Print the figures as the last line, for `make bench` to collect."""
    print()
    print(json.dumps(figures))


def _quartiles(figures: list[float]) -> tuple[float, float, float]:
    if len(figures) < 2:
        return figures[0], figures[0], figures[0]
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, middle, high
