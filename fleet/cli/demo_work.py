"""The work that `fleet demo` gives its fleet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet

EXAMPLE_APPLICATION = "examples/vulnerable_app"


@dataclass(frozen=True, slots=True)
class Errand:
    """One task of the demo and what to call it. `max_rows` shortens a long result, `export` is
    a format to write it in."""

    title: str
    request_type: str
    payload: dict[str, Any]
    complexity: float = 0.3
    max_rows: int | None = None
    export: str = ""


# Small enough for the local model, which gets each of them right as a rule. Its answers hang
# on every word of an instruction, so that a change of words is a change of luck.
CODE = (
    Errand(
        "add two numbers",
        "code_generation",
        {
            "instruction": "Write a function add(a, b) that returns the sum of a and b.",
            "tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0",
        },
        complexity=0.1,
    ),
    Errand(
        "reverse a text",
        "code_generation",
        {
            "instruction": "Write a function reverse_string(s) that returns the string s reversed.",
            "tests": "assert reverse_string('abc') == 'cba'\nassert reverse_string('') == ''",
        },
        complexity=0.2,
    ),
    Errand(
        "largest number",
        "code_generation",
        {
            "instruction": (
                "Write a function maximum(numbers) that returns the largest number in a list."
            ),
            "tests": "assert maximum([3, 9, 2]) == 9\nassert maximum([-5, -2]) == -2",
        },
        complexity=0.3,
    ),
    Errand(
        "tell primes",
        "code_generation",
        {
            "instruction": (
                "Write a function is_prime(n) that returns True if n is a prime number."
            ),
            "tests": "assert is_prime(7)\nassert not is_prime(9)\nassert not is_prime(1)",
        },
        complexity=0.4,
    ),
)

TIMINGS = Errand(
    "find duplicates, two ways",
    "performance_test",
    {
        "setup": "import random\nitems = [random.randrange(10**9) for _ in range(200)]",
        "variants": [
            {
                "name": "compare pairs",
                "code": (
                    "def has_duplicates(items):\n"
                    "    return any(a == b for i, a in enumerate(items) for b in items[:i])"
                ),
                "call": "has_duplicates(items)",
            },
            {
                "name": "build a set",
                "code": "def has_duplicates(items):\n    return len(set(items)) < len(items)",
                "call": "has_duplicates(items)",
            },
        ],
        "seconds": 8,
    },
    export="png",
)


def errands(read_root: Path) -> tuple[list[Errand], list[str]]:
    """The demo's tasks, and notes on those left out because their files are not here.

    Agents may read what is under `read_root` and nothing else.
    """
    chosen, notes = list(CODE), []
    for title, folder, most in _scans():
        path = Path(folder).resolve()
        if path.is_dir() and path.is_relative_to(read_root.resolve()):
            payload = {"paths": [str(path.relative_to(read_root.resolve()))]}
            chosen.append(Errand(title, "security_analysis", payload, 0.5, most))
        else:
            notes.append(f"not scanned: {title}, {folder} is not under {read_root.resolve()}")
    return [*chosen, TIMINGS], notes


def _scans() -> tuple[tuple[str, str, int | None], ...]:
    own = str(Path(fleet.__file__).parent)
    return (
        ("planted holes", EXAMPLE_APPLICATION, None),
        ("Fleet's own source", own, 5),
    )
