"""The process of a scan: `python -m workers.security_scanner.child`.

It reads one order per line from its standard input, as JSON, and answers each with one line. An
order is a file to scan, or all hits to turn into findings. A regular expression keeps the
interpreter's lock while it runs, so the kernel enforces the limits instead of Python: `CPU_SECONDS`
for an order, `MEMORY_BYTES` for the process. `workers.security_scanner.process` is the other side.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fleet.local.supervisor import end_with_parent
from workers.security_scanner.findings import findings_of
from workers.security_scanner.hits import Hit
from workers.security_scanner.scan import Scan

CPU_SECONDS = 20
MEMORY_BYTES = 1 << 30


def main() -> None:
    """Answer orders until the input ends."""
    end_with_parent(signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answers = sys.stdout
    # The tools' prints must not mix with the answers.
    sys.stdout = sys.stderr
    for line in sys.stdin:
        order = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, order.get("cpu_seconds", CPU_SECONDS))
        answer = _scanned(**order["scan"]) if "scan" in order else _findings(**order["mask"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _scanned(name: str, path: str) -> dict[str, Any]:
    scan = Scan()
    scan.add(name, Path(path))
    return {
        "hits": [asdict(hit) for hit in scan.hits],
        "skipped": [each.model_dump() for each in scan.skipped],
        "files": scan.files,
        "lines": scan.lines,
        "suppressed": scan.suppressed,
    }


def _findings(hits: list[dict[str, Any]], min_severity: Any) -> list[dict[str, Any]]:
    found = [Hit(**{**each, "secrets": tuple(each["secrets"])}) for each in hits]
    return [finding.model_dump() for finding in findings_of(found, min_severity)]


if __name__ == "__main__":
    main()
