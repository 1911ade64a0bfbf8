"""Fleet's own three agents through real workers. How they fail is tested without workers, too."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from harness import ROOT, Crew

from fleet.errors import FleetError, NotAllowed


def result(crew: Crew, request_type: str, payload: dict[str, Any]) -> Any:
    return crew.fleet.submit(request_type, payload, tenant="acme").result(timeout=120)


def test_code_that_passes_its_tests_is_a_success(crew: Crew) -> None:
    done = result(
        crew,
        "code_generation",
        {
            "instruction": "Write a Python function add(a, b) that returns the sum of a and b.",
            "tests": "assert add(1, 2) == 3\nassert add(-1, 1) == 0",
            "max_tokens": 128,
        },
    )
    assert done.verified
    assert "def add" in done.code


def test_planted_holes_are_found_with_file_line_severity_and_cwe(crew: Crew) -> None:
    folder = str(ROOT / "examples" / "vulnerable_app")
    done = result(crew, "security_analysis", {"paths": [folder], "triage": False})
    injection = [finding for finding in done.findings if finding.cwe == 89]
    assert injection
    assert injection[0].line > 0
    assert injection[0].severity in ("low", "medium", "high")


def test_a_path_outside_the_roots_is_not_read(crew: Crew) -> None:
    with pytest.raises(NotAllowed, match="/etc"):
        result(crew, "security_analysis", {"paths": ["/etc"]})


def test_two_variants_are_timed_and_told_apart(crew: Crew) -> None:
    done = result(
        crew,
        "performance_test",
        {
            "variants": [
                {"name": "loop", "code": SLOW, "call": "total(data)"},
                {"name": "sum", "code": "def total(xs): return sum(xs)", "call": "total(data)"},
            ],
            "setup": "data = list(range(2000))",
            "seconds": 4,
        },
    )
    assert [timing.name for timing in done.timings] == ["loop", "sum"]
    (comparison,) = done.comparisons
    assert comparison.verdict == "faster"
    assert comparison.high < 1
    assert done.same_result
    assert b64decode(done.plot_png_base64).startswith(b"\x89PNG")


SLOW = """
def total(xs):
    found = 0
    for x in xs:
        found += x
    return found
"""


def test_a_variant_that_raises_is_a_failed_task(crew: Crew) -> None:
    payload = {
        "variants": [{"name": "bad", "code": "def f(): raise KeyError('x')", "call": "f()"}],
        "seconds": 2,
    }
    with pytest.raises(FleetError, match="bad"):
        result(crew, "performance_test", payload)
