"""The security scanner: select the files, scan them, mask and sort the findings, triage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.agent import AgentContext, Outcome
from workers.security_scanner.findings import counts_of
from workers.security_scanner.models import (
    INLINE_NAME,
    Finding,
    SecurityScanPayload,
    SecurityScanResult,
    Triage,
)
from workers.security_scanner.process import Scanned, ScannerProcess
from workers.security_scanner.sources import Selection, select
from workers.security_scanner.stoppable import in_thread
from workers.security_scanner.triage import quality_of, triage_of

# Gives a progress report about every second.
FILES_A_REPORT = 25


class SecurityScanner:
    """Runs bandit and detect-secrets over the payload's files. Keeps nothing between runs."""

    async def run(self, payload: SecurityScanPayload, context: AgentContext) -> Outcome:
        """Scan. The outcome is `succeeded` once every file was scanned, with or without findings.

        Raises `NotAllowed` for a path outside the context's `read_roots`, `InvalidRequest`
        for one that does not exist and for too many files.
        """
        scan = await _scanned(payload, context)
        findings = scan.findings
        triage, no_triage_reason = await _triage(payload, findings, context)
        result = SecurityScanResult(
            findings=findings,
            counts=counts_of(findings),
            files_scanned=scan.files,
            lines_scanned=scan.lines,
            suppressed=scan.suppressed,
            skipped=tuple(scan.skipped),
            triage=triage,
            no_triage_reason=no_triage_reason,
        )
        quality = None if triage is None else quality_of(triage)
        return Outcome("succeeded", result, summary_of(result), quality)


def summary_of(result: SecurityScanResult) -> str:
    """One line, such as `14 findings (5 high) in 6 files`."""
    return (
        f"{_count(len(result.findings), 'finding')} ({result.counts.high} high) "
        f"in {_count(result.files_scanned, 'file')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


async def _scanned(payload: SecurityScanPayload, context: AgentContext) -> Scanned:
    if payload.source is not None:
        with TemporaryDirectory(prefix="fleet-scan-") as folder:
            name = payload.filename or INLINE_NAME
            path = Path(folder) / name
            path.write_text(payload.source, encoding="utf-8")
            return await _scan_all(Selection(files={name: path}, skipped=[]), payload, context)
    paths, roots = payload.paths or (), context.read_roots
    selection = await in_thread(
        lambda stop: select(paths, roots, payload.exclude, payload.max_files)
    )
    return await _scan_all(selection, payload, context)


async def _scan_all(
    selection: Selection, payload: SecurityScanPayload, context: AgentContext
) -> Scanned:
    scanned = Scanned(skipped=list(selection.skipped))
    number = len(selection.files)
    async with ScannerProcess() as scanner:
        for done, (name, path) in enumerate(selection.files.items(), start=1):
            scanned.add(await scanner.scan(name, path))
            if done % FILES_A_REPORT == 0 or done == number:
                await context.report(f"scanned {done} of {_count(number, 'file')}")
        scanned.findings = await scanner.findings(scanned.hits, payload.min_severity)
    return scanned


async def _triage(
    payload: SecurityScanPayload, findings: Sequence[Finding], context: AgentContext
) -> tuple[Triage | None, str | None]:
    if not payload.triage:
        return None, "not asked for"
    if not findings:
        return None, "nothing was found"
    await context.report("writing the triage")
    return await triage_of(findings, context), None
