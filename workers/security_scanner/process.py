"""The worker's side of a scan's process, which may hang or die without harm to the worker.

The scanned text decides how long a search takes. In the worker's process the search would keep the
interpreter's lock, and the leases of all its tasks could not be renewed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fleet.errors import InvalidRequest, Unavailable
from workers.security_scanner import child
from workers.security_scanner.models import Finding, Grade, Skipped

MAX_HITS = 5000
"""Of a whole scan; of the files after that only the number is told."""
END_SECONDS = 5.0
ANSWER_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Scanned:
    """The results so far. `hits` are raw, with secrets, and stay in this process."""

    hits: list[dict[str, Any]] = field(default_factory=list, repr=False)
    skipped: list[Skipped] = field(default_factory=list)
    findings: tuple[Finding, ...] = ()
    files: int = 0
    lines: int = 0
    suppressed: int = 0

    def add(self, answer: dict[str, Any]) -> None:
        """Add the child's answer about a file."""
        hits = answer["hits"]
        room = max(0, MAX_HITS - len(self.hits))
        self.hits += hits[:room]
        self.skipped += [Skipped(**each) for each in answer["skipped"]]
        if len(hits) > room:
            reason = f"{len(hits) - room} findings more than the {MAX_HITS:,} that a scan reports"
            self.skipped.append(Skipped(file=hits[0]["file"], reason=reason))
        self.files += answer["files"]
        self.lines += answer["lines"]
        self.suppressed += answer["suppressed"]


class ScannerProcess:
    """The process, started on first use, and again after a file killed it."""

    def __init__(self, cpu_seconds: float = child.CPU_SECONDS) -> None:
        self.cpu_seconds = cpu_seconds
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def scan(self, name: str, path: Path) -> dict[str, Any]:
        """The hits in a file, or why it could not be scanned."""
        found = await self._ask({"scan": {"name": name, "path": str(path)}})
        if isinstance(found, dict):
            return found
        skipped = {"file": name, "reason": f"not scanned: {found}"}
        return {"hits": [], "skipped": [skipped], "files": 0, "lines": 0, "suppressed": 0}

    async def findings(
        self, hits: list[dict[str, Any]], min_severity: Grade
    ) -> tuple[Finding, ...]:
        """The masked findings from hits. Raises `InvalidRequest` if there are too many."""
        if not hits:
            return ()
        found = await self._ask({"mask": {"hits": hits, "min_severity": min_severity}})
        if not isinstance(found, list):
            raise InvalidRequest(f"the findings could not be masked: {found}; name fewer files")
        return tuple(Finding(**each) for each in found)

    async def _ask(self, order: dict[str, Any]) -> Any:
        """The answer, or as a string why the process died."""
        process = self._process or await self._start()
        assert process.stdin is not None and process.stdout is not None
        order["cpu_seconds"] = self.cpu_seconds
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except (ConnectionError, ValueError):
            line = b""
        if line.endswith(b"\n"):
            return json.loads(line)
        return self._died_of(await self._end(died=True))

    async def _start(self) -> Process:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                child.__name__,
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=ANSWER_BYTES,
                env=_environment(),
            )
        except OSError as error:
            raise Unavailable(f"the scanner's process does not start: {error.strerror}") from error
        return self._process

    async def _end(self, *, died: bool = False) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            if died:
                # Killing it would replace the exit status that says why it died.
                async with asyncio.timeout(END_SECONDS):
                    return await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            # Otherwise the event loop may end before the pipes.
            process._transport.close()  # type: ignore[attr-defined]
        return process.returncode or 0

    def _died_of(self, status: int) -> str:
        if status == -signal.SIGPROF:
            return f"it took more than {self.cpu_seconds:g} s of processor time"
        return (
            f"the scanner's process died (exit status {status}); it may have used more memory than "
            f"{child.MEMORY_BYTES >> 20} MB"
        )


def _environment() -> dict[str, str]:
    """The child's environment: the places of Python's modules, and no key of the worker."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"}
