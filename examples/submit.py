"""Submit tasks from Python, wait for their results, and show their pools and models.

    fleet up                      # in one terminal
    python examples/submit.py     # in another, in the same folder
"""

from __future__ import annotations

import sys

from fleet import Fleet, Submission
from fleet.errors import FleetError, NoAgentAvailable, TaskUnverified

SHOP = """
import subprocess

def print_invoice(customer):
    subprocess.call("lpr -T " + customer + " invoice.ps", shell=True)
"""


def main() -> None:
    fleet = Fleet.from_env()

    # One task. `submit` returns at once, with the id and the pool; a worker runs the task.
    task = fleet.submit(
        "code_generation",
        {
            "instruction": "Write a Python function add(a, b) that returns the sum of a and b.",
            "function": "add",
            "tests": "assert add(2, 3) == 5\nassert add(-1, 1) == 0",
        },
        tenant="acme",
        complexity=0.2,
    )
    print(f"{task.id}: pool {task.decision.pool}, model {task.model_decision.model}")
    print(f"scores: {task.decision.scores}")

    # Its typed result. For code that failed its tests, the error holds the code.
    try:
        done = task.result(timeout=120)
    except TaskUnverified as doubtful:
        print(f"not verified: {doubtful}\n{doubtful.result.code}")
    else:
        print(f"verified, {done.asserts_passed} asserts held:\n{done.code}")

    # Several at once, in one round trip. Submitting again with the same key returns the first task.
    scans = fleet.submit_many(
        [
            Submission("security_analysis", {"source": SHOP, "triage": False}, tenant="acme"),
            Submission(
                "security_analysis",
                {"source": "print('hello')", "triage": False},
                idempotency_key="the-harmless-one",
            ),
        ]
    )
    for scan in scans:
        for found in scan.result(timeout=120).findings:
            print(f"{found.severity} CWE-{found.cwe} line {found.line}: {found.title}")

    # Any process can read a task by its id.
    record = fleet.task(task.id).record()
    print(f"{record.state} after {record.run_seconds:.1f} s in pool {record.pool}")


if __name__ == "__main__":
    try:
        main()
    except NoAgentAvailable as error:
        sys.exit(f"no agent is available: {error}")
    except FleetError as error:
        sys.exit(f"{type(error).__name__}: {error}")
