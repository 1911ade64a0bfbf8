"""The process that a scan runs in: `python -m workers.security_scanner.child`.

It reads an order a line from its standard input, as JSON, and answers each with a line: a file to
scan, or all hits, to be made findings. Regular expressions hold the interpreter's lock for as long
as they run, so the kernel ends the process, and not Python: an order may take `CPU_SECONDS`, the
process `MEMORY_BYTES`. `workers.security_scanner.process` is the other side.
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
    """Answer orders until there are no more."""
    end_with_parent(signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    answers = sys.stdout
    # What the tools print must not stand among the answers.
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
