"""Searches the locked packages for known vulnerabilities: `make audit`.

    python .ci/audit.py requirements.txt .ci/requirements-tools.txt

pip-audit calls a package sound that its database does not answer for. This says of how many
packages nothing is known, and skips the search with its reason if that is so for all of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def verdict(found: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """The exit status for the packages of a report, and what to print."""
    unknown = [each["name"] for each in found if "skip_reason" in each]
    lines = [
        f"{each['name']} {each['version']}: {hole['id']}, fixed in "
        f"{', '.join(hole['fix_versions']) or 'no version'}"
        for each in found
        for hole in each.get("vulns", ())
    ]
    if lines:
        return 1, lines
    if len(unknown) == len(found):
        return 0, [f"skipped: the database of vulnerabilities knows none of {len(found)} packages"]
    known = f"no known vulnerability in {len(found) - len(unknown)} packages"
    return 0, [f"{known}; nothing is known of: {', '.join(unknown)}" if unknown else known]


def report(file: str) -> list[dict[str, Any]] | str:
    """The packages of pip-audit's report on a lock file, or why there is none."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--no-deps", "--disable-pip", "--requirement", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]
        return f"skipped: the database of vulnerabilities does not answer ({last[:200]})"
    return found


def main(files: Sequence[str]) -> int:
    status = 0
    for file in files:
        found = report(file)
        failed, lines = (0, [found]) if isinstance(found, str) else verdict(found)
        status = max(status, failed)
        for line in lines:
            sys.stdout.write(f"{file}: {line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
