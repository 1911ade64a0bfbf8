"""The work that `fleet demo` gives its fleet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fleet

EXAMPLE_APPLICATION = "examples/vulnerable_app"


@dataclass(frozen=True, slots=True)
class Errand:
    """One task of the demo and what to call it. `most_findings` shortens a long scan."""

    title: str
    request_type: str
    payload: dict[str, Any]
    complexity: float = 0.3
    most_findings: int | None = None


CODE = (
    Errand(
        "add two numbers",
        "code_generation",
        {
            "instruction": "Write a Python function add(a, b) that returns the sum of a and b.",
            "function": "add",
            "tests": "assert add(2, 3) == 5\nassert add(-1, 1) == 0\nassert add(0.5, 0.25) == 0.75",
        },
        complexity=0.1,
    ),
    Errand(
        "tell even numbers",
        "code_generation",
        {
            "instruction": "Write a Python function is_even(n) that returns True if n is even.",
            "function": "is_even",
            "tests": "assert is_even(0)\nassert is_even(10)\nassert not is_even(7)",
        },
        complexity=0.1,
    ),
    Errand(
        "factorial",
        "code_generation",
        {
            "instruction": "Write a Python function factorial(n) that returns the factorial of n.",
            "function": "factorial",
            "tests": "assert factorial(0) == 1\nassert factorial(5) == 120",
        },
        complexity=0.4,
    ),
    Errand(
        "reverse a text",
        "code_generation",
        {
            "instruction": "Write a Python function reverse_string(s) that returns s reversed.",
            "function": "reverse_string",
            "tests": "assert reverse_string('fleet') == 'teelf'\nassert reverse_string('') == ''",
        },
        complexity=0.2,
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
