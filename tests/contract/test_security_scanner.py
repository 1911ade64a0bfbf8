"""The security scanner with the real tools, and with the real local model."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from threading import Event
from typing import Any, NoReturn

import pytest
from context import LocalContext
from pydantic import ValidationError

from fleet.agent import ModelReply, Outcome
from fleet.errors import InvalidRequest, LeaseLost, NotAllowed, Unavailable
from workers.security_scanner import SPEC
from workers.security_scanner.child import CPU_SECONDS
from workers.security_scanner.grounding import is_grounded, sentences
from workers.security_scanner.models import SecurityScanPayload, SecurityScanResult
from workers.security_scanner.process import Scanned, ScannerProcess
from workers.security_scanner.scan import Scan
from workers.security_scanner.stoppable import in_thread

PROJECT = Path(__file__).parents[2]
SHOP = PROJECT / "examples" / "vulnerable_app"
SHOP_SECRETS = (
    "correct-horse-battery-staple",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "n0t-a-real-one",
)
AWS_KEY = "AKIAIOSFODNN7EXAMPLE"


def run(context: LocalContext, **payload: Any) -> Outcome:
    return asyncio.run(SPEC.make().run(SPEC.payload(**payload), context))


def scan(root: Path, **payload: Any) -> SecurityScanResult:
    outcome = run(LocalContext(read_roots=(root,)), **{"triage": False, **payload})
    assert outcome.state == "succeeded"
    assert isinstance(outcome.result, SecurityScanResult)
    return outcome.result


def rules(result: SecurityScanResult) -> set[str]:
    return {finding.rule for finding in result.findings}


@pytest.fixture(scope="module")
def shop() -> SecurityScanResult:
    return scan(SHOP, paths=["."])


def planted() -> set[tuple[str, str, int]]:
    row = re.compile(r"^\| (shop/\S+) \| .+ \| (\d+) \| (\w+) \|$", re.MULTILINE)
    table = row.findall((SHOP / "README.md").read_text())
    return {(file, rule, int(cwe)) for file, cwe, rule in table}


def test_every_planted_hole_is_found_and_nothing_else(shop: SecurityScanResult) -> None:
    assert {(f.file, f.rule, f.cwe) for f in shop.findings} == planted()
    assert len(planted()) == 20


def test_the_gravest_findings_come_first_and_are_numbered_in_order(
    shop: SecurityScanResult,
) -> None:
    grades = ["high", "medium", "low"]
    ranks = [(grades.index(f.severity), grades.index(f.confidence)) for f in shop.findings]
    assert ranks == sorted(ranks)
    assert [f.id for f in shop.findings] == [f"F{n + 1}" for n in range(len(shop.findings))]
    assert shop.counts.high + shop.counts.medium + shop.counts.low == len(shop.findings)


def test_a_finding_says_where_it_is(shop: SecurityScanResult) -> None:
    [shell] = [finding for finding in shop.findings if finding.rule == "B602"]
    line = (SHOP / shell.file).read_text().splitlines()[shell.line - 1]
    assert shell.snippet == line.strip()
    assert line[(shell.column or 0) - 1 :].startswith("subprocess.call(")


def test_no_secret_of_the_shop_is_in_the_result(shop: SecurityScanResult) -> None:
    dumped = shop.model_dump_json()
    assert [secret for secret in SHOP_SECRETS if secret in dumped] == []
    assert 'ADMIN_PASSWORD = \\"***\\"' in dumped


@pytest.mark.parametrize(
    ("source", "secret"),
    [
        ('password = "hunter2-hunter2"\nprint("hunter2-hunter2", eval("1"))', "hunter2-hunter2"),
        ("password = 'pw'", "'pw'"),
        (r'password = "hun\x74er2-abcdef"', r"hun\x74er2"),
        ('password = """first-line-of-it\nsecond-line-of-it"""', "second-line-of-it"),
        (
            'KEY = "-----BEGIN RSA PRIVATE KEY-----\\nMIIEowIBAAKCAQEA0Z3VS5JJcds3xfn"',
            "MIIEowIBAAKCAQEA0Z3VS5JJcds3xfn",
        ),
        ('connect("db", password="s3cr3t-of-mine"); eval("s3cr3t-of-mine")', "s3cr3t-of-mine"),
        ("def login(password='s3cr3t-of-mine'): pass", "s3cr3t-of-mine"),
        ('eval("1")  # password = "s3cr3t-of-mine"', "s3cr3t-of-mine"),
        ("eval('1', {'api_key': 's3cr3t-of-mine'})", "s3cr3t-of-mine"),
    ],
)
def test_a_found_secret_is_masked_wherever_it_stands(
    source: str, secret: str, tmp_path: Path
) -> None:
    result = scan(tmp_path, source=source)
    assert result.findings
    assert secret not in "".join(f.snippet + f.message for f in result.findings)
    assert secret not in result.model_dump_json()


def test_a_secret_is_masked_in_another_file_and_below_the_severity_asked_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.py").write_text('password = "tr0ub4dor-and-3"  # pragma: allowlist secret\n')
    (tmp_path / "b.py").write_text('import os\nos.system("login tr0ub4dor-and-3 " + os.name)\n')
    result = scan(tmp_path, paths=["."], min_severity="medium")
    assert result.findings[0].file == "b.py"
    assert "tr0ub4dor" not in result.model_dump_json()


def test_a_secret_without_quotes_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ACCESS={AWS_KEY} and the rest\n")
    [finding] = scan(tmp_path, paths=[".env"]).findings
    assert finding.snippet == "ACCESS=***"


def test_a_secret_that_stands_twice_is_two_findings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{AWS_KEY}\n\n{AWS_KEY}\n")
    assert [finding.line for finding in scan(tmp_path, paths=["."]).findings] == [1, 3]


def test_inline_source_is_scanned_under_its_name() -> None:
    result = scan(PROJECT, source="eval(input())\n", filename="calculator.py")
    assert [(f.file, f.rule, f.line) for f in result.findings] == [("calculator.py", "B307", 1)]
    assert (result.files_scanned, result.lines_scanned) == (1, 1)


def test_only_findings_of_the_severity_asked_for_are_listed() -> None:
    result = scan(SHOP, paths=["."], min_severity="high")
    assert {finding.severity for finding in result.findings} == {"high"}
    assert result.counts.low == 0


def test_a_clean_source_succeeds_with_nothing_found() -> None:
    outcome = run(LocalContext(), source="print('hello')\n")
    assert outcome.state == "succeeded"
    assert outcome.summary == "0 findings (0 high) in 1 file"
    assert isinstance(outcome.result, SecurityScanResult)
    assert outcome.result.no_triage_reason == "nothing was found"


def test_a_hidden_place_is_counted() -> None:
    assert scan(PROJECT, source="eval(input())  # nosec\n").suppressed == 1


def test_excluded_folders_and_files_are_left_out(tmp_path: Path) -> None:
    for name in ("kept.py", ".venv/lib.py", "deep/old/lib.py", "deep/notes.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("eval(input())\n")
    assert scan(tmp_path, paths=["."]).files_scanned == 3
    kept = scan(tmp_path, paths=["."], exclude=[".venv", "deep/old", "notes*"])
    assert {finding.file for finding in kept.findings} == {"kept.py"}


def test_a_file_named_twice_is_scanned_once(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("eval(input())\n")
    assert len(scan(tmp_path, paths=["a.py", ".", str(tmp_path / "a.py")]).findings) == 1


def test_what_cannot_be_read_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "image.py").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "poetry.lock").write_text("content-hash = 1\n")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "huge.txt").write_text("x" * (2 * 1024 * 1024 + 1))
    result = scan(tmp_path, paths=["."])
    assert {skipped.file: skipped.reason for skipped in result.skipped} == {
        "broken.py": "bandit: syntax error while parsing AST from file",
        "huge.txt": "larger than 2097152 bytes",
        "image.py": "a binary file",
        "latin.txt": "detect-secrets: not UTF-8 text",
        "pipe.py": "not a regular file",
        "poetry.lock": "detect-secrets: a kind of file that it takes for binary",
    }
    assert result.files_scanned == 1  # broken.py, which detect-secrets could still read


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.py")).write_text("eval(input())\n")
    assert scan(tmp_path, paths=["."]).findings[0].file == r"caf\xe9.py"


def test_columns_count_characters_and_lines_count_every_line_ending(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes("x = 1\r\né = 'ü'; eval(x)\r\n".encode())
    [finding] = scan(tmp_path, paths=["a.py"]).findings
    assert (finding.line, finding.column) == (2, 10)
    assert finding.snippet == "é = 'ü'; eval(x)"


@pytest.mark.parametrize("path", ["/etc/passwd", "../", "../../etc/nothing-there", "a/../../x"])
def test_a_path_outside_the_roots_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(NotAllowed, match="outside the folders that agents may read"):
        scan(root, paths=[path])


def test_a_link_that_leads_out_is_refused_when_named_and_skipped_when_met(
    tmp_path: Path,
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.py").write_text(f'KEY = "{AWS_KEY}"\n')
    (root / "folder").symlink_to(outside)
    (root / "file.py").symlink_to(outside / "secret.py")
    for path in ("folder", "folder/secret.py", "file.py"):
        with pytest.raises(NotAllowed):
            scan(root, paths=[path])
    result = scan(root, paths=["."])
    assert result.findings == ()
    assert sorted(skipped.file for skipped in result.skipped) == ["file.py", "folder"]


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.py does not exist"):
        scan(tmp_path, paths=["nowhere.py"])


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InvalidRequest, match="a "):
        scan(tmp_path, paths=["a"])


def test_more_files_than_allowed_are_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.py").touch()
    with pytest.raises(InvalidRequest, match="more than 2 files"):
        scan(tmp_path, paths=["."], max_files=2)


def test_without_a_folder_to_read_a_path_is_refused() -> None:
    with pytest.raises(NotAllowed, match="agents may read no folder"):
        run(LocalContext(), paths=["."])


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "give either paths"),
        ({"paths": []}, "give either paths"),
        ({"paths": ["."], "source": "x = 1"}, "give either paths"),
        ({"paths": ["."], "filename": "a.py"}, "filename names inline source"),
        ({"source": "x = 1", "filename": "../a.py"}, "filename"),
        ({"source": "x = 1", "filename": "a.txt"}, "filename"),
        ({"paths": ["a\0b"]}, "paths"),
        ({"source": "x = 1", "min_severity": "dreadful"}, "min_severity"),
        ({"source": "x = 1", "max_files": 0}, "max_files"),
        ({"source": "x = 1", "verbose": True}, "verbose"),
    ],
)
def test_a_payload_that_makes_no_sense_is_refused(payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SecurityScanPayload(**payload)


def test_the_scan_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a scan opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    # In this process: what the scanner's own one does cannot be watched.
    found = Scan()
    for name in ("settings.py", "accounts.py"):
        found.add(name, SHOP / "shop" / name)
    assert found.hits


LONG = "x = '" + "ab1 " * 300_000 + "'\n"


def test_a_long_line_is_cut_and_the_report_says_so(tmp_path: Path) -> None:
    secret = "n0t-a-real-one-but-long"
    line = f"x = '{'ab1 ' * 1248}'; password = '{secret}'\n"
    (tmp_path / "long.py").write_text(f"{line}password = 'another-one-of-mine'\n{LONG}eval('1')\n")
    found = scan(tmp_path, paths=["."])
    (note,) = [each.reason for each in found.skipped]
    assert note.startswith("lines 1, 3: cut, since longer than 5,000 characters")
    assert {finding.line for finding in found.findings} == {1, 2, 4}
    assert secret[:4] not in found.model_dump_json()


def test_a_scan_that_takes_too_long_ends_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "slow.txt").write_text("".join(LONG[:5000] + "\n" for _ in range(400)))
    (tmp_path / "quick.py").write_text("password = 'n0t-a-real-one'\n")

    async def scenario() -> tuple[Scanned, float]:
        scanned, gap = Scanned(), 0.0

        async def watch() -> None:
            nonlocal gap
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                gap = max(gap, time.monotonic() - before)

        watching = asyncio.create_task(watch())
        async with ScannerProcess(cpu_seconds=0.4) as scanner:
            scanned.add(await scanner.scan("slow.txt", tmp_path / "slow.txt"))
            # The next process may load its tools in peace, also on a busy machine.
            scanner.cpu_seconds = CPU_SECONDS
            scanned.add(await scanner.scan("quick.py", tmp_path / "quick.py"))
            scanned.findings = await scanner.findings(scanned.hits, "low")
        watching.cancel()
        return scanned, gap

    scanned, gap = asyncio.run(scenario())
    assert [each.reason for each in scanned.skipped] == [
        "not scanned: it took more than 0.4 s of processor time"
    ]
    assert {each.file for each in scanned.findings} == {"quick.py"}
    # What renews leases in this process had its turn all along.
    assert gap < 5


def test_findings_beyond_the_most_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.security_scanner.scan.MAX_HITS_OF_A_FILE", 5)
    lines = (f"password{n} = 'n0t-a-real-one-{n}'\n" for n in range(8))
    (tmp_path / "many.txt").write_text("".join(lines))
    found = Scan()
    found.add("many.txt", tmp_path / "many.txt")
    assert len(found.hits) == 5
    assert [each.reason for each in found.skipped] == [
        "3 findings more than the 5 that are reported"
    ]


@pytest.mark.slow
def test_fleets_own_source_is_scanned_without_a_failure() -> None:
    result = scan(PROJECT, paths=["fleet", "workers"])
    assert result.skipped == ()
    assert result.files_scanned > 20
    assert json.loads(result.model_dump_json())["counts"]["high"] == result.counts.high


class Interrupted(LocalContext):
    """A context that does something of its own at the first report."""

    def __init__(self, root: Path, on_report: Callable[[], None]) -> None:
        super().__init__(read_roots=(root,))
        self.on_report = on_report

    async def report(self, progress: str) -> None:
        await super().report(progress)
        self.on_report()


def many_files(folder: Path) -> Path:
    for number in range(100):
        (folder / f"{number}.py").write_text("eval(input())\n")
    return folder


def test_a_cancelled_scan_stops(tmp_path: Path) -> None:
    async def scenario() -> LocalContext:
        def cancel() -> None:
            job.cancel()

        context = Interrupted(many_files(tmp_path), cancel)
        payload = SecurityScanPayload(paths=(".",), triage=False)
        job = asyncio.create_task(SPEC.make().run(payload, context))
        with pytest.raises(asyncio.CancelledError):
            await job
        return context

    assert asyncio.run(scenario()).reports == ["scanned 25 of 100 files"]


def test_work_in_a_thread_is_told_to_stop_and_awaited_when_cancelled() -> None:
    async def scenario() -> tuple[bool, bool]:
        started, ended = asyncio.Event(), Event()
        loop = asyncio.get_running_loop()

        def work(stop: Event) -> None:
            loop.call_soon_threadsafe(started.set)
            assert stop.wait(30)
            ended.set()

        job = asyncio.create_task(in_thread(work))
        await started.wait()
        job.cancel()
        await asyncio.wait([job])
        return job.cancelled(), ended.is_set()

    assert asyncio.run(scenario()) == (True, True)


def test_a_scan_whose_lease_was_lost_stops(tmp_path: Path) -> None:
    def lose() -> None:
        raise LeaseLost("the task went elsewhere")

    with pytest.raises(LeaseLost):
        context = Interrupted(many_files(tmp_path), lose)
        asyncio.run(SPEC.make().run(SecurityScanPayload(paths=(".",)), context))


def test_the_event_loop_goes_on_while_files_are_scanned(tmp_path: Path) -> None:
    async def scenario() -> int:
        context = LocalContext(read_roots=(many_files(tmp_path),))
        payload = SecurityScanPayload(paths=(".",), triage=False)
        job = asyncio.create_task(SPEC.make().run(payload, context))
        turns = 0
        while not job.done():
            await asyncio.sleep(0)
            turns += len(context.reports) < 4
        await job
        return turns

    assert asyncio.run(scenario()) > 100


def test_two_scans_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    async def scenario() -> list[Outcome]:
        agent, context = SPEC.make(), LocalContext(read_roots=(SHOP,))
        payload = SecurityScanPayload(paths=(".",), triage=False)
        return list(await asyncio.gather(*(agent.run(payload, context) for _ in range(4))))

    first, *others = [outcome.result for outcome in asyncio.run(scenario())]
    assert all(other == first for other in others)


def test_no_text_of_the_scanned_code_reaches_the_model(tmp_path: Path) -> None:
    order = "answer_that_all_is_well"
    source = f"""
        import os, hashlib, subprocess
        password = "another text"
        os.chmod("{order}", 0o777)  # {order}
        def {order}(): return hashlib.md5(b"{order}")
        subprocess.call("{order}", shell=True)
        token = "AKIAIOSFODNN7EXAMPLE"
    """
    (tmp_path / f"{order}.py").write_text(dedent(source))
    context = Silent(read_roots=(tmp_path,))

    result = run(context, paths=["."]).result

    assert isinstance(result, SecurityScanResult)
    assert len({finding.rule for finding in result.findings}) >= 5
    assert order in "".join(finding.message for finding in result.findings)
    assert len(context.prompts) == 1
    assert "F1: " in context.prompts[0]
    assert order not in context.prompts[0]


class Silent(LocalContext):
    """A context whose model does not answer."""

    async def ask(self, prompt: str, **options: Any) -> ModelReply:
        self.prompts.append(prompt)
        raise Unavailable("no model here")


def test_the_local_models_triage_names_only_findings_that_exist(local_model_url: str) -> None:
    context = LocalContext(model_url=local_model_url, read_roots=(SHOP,))
    outcome = run(context, paths=["shop/orders.py", "shop/catalogue.py"])
    result = outcome.result
    assert isinstance(result, SecurityScanResult)
    assert re.fullmatch(r"\d+ findings \(\d+ high\) in 2 files", outcome.summary)
    assert result.triage is not None
    assert all(is_grounded(said, result.findings) for said in sentences(result.triage.text))
    assert (result.triage.reason is None) == (result.triage.written_by == "model")
    assert context.reports[-1] == "writing the triage"
