"""What is installed: locked with its hashes, without code that runs at every start of Python."""

from __future__ import annotations

import importlib.util
import re
import site
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

LOCKS = ("requirements.txt", "requirements-model.txt", ".ci/requirements-tools.txt")

LOCKED = re.compile(r"[\w.\-\[\],]+==\S+ .*--hash=sha256:[0-9a-f]{64}")

STARTERS = re.compile(r"distutils-precedence\.pth|__editable__\.fleet-[\w.]+\.pth|_virtualenv\.pth")
"""The `.pth` files that an environment may have: of setuptools, of Fleet itself, of virtualenv.
Python runs the lines of such a file at every start, so an attacker may hide code there."""

INSTALLS = re.compile(r"pip\b[^\n]* install\b(?:[^\n]*\\\n)*[^\n]*")

OWN = re.compile(r"--no-deps (?:\\\s+)?--no-build-isolation (-e )?\.")
"""Fleet itself, from this folder."""


@pytest.mark.parametrize("lock", LOCKS)
def test_each_locked_package_has_a_version_and_hashes(lock: str) -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / lock).read_text())
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if not LOCKED.match(line)] == []


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", *(f"{path}" for path in WORKFLOWS)],
                         ids=["Makefile", "Dockerfile", *(path.stem for path in WORKFLOWS)])
def test_nothing_is_installed_without_its_hash(file: str) -> None:
    text = (ROOT / file).read_text()
    found = [each for each in INSTALLS.findall(text) if "install pip;" not in each]
    assert [each for each in found if "--require-hashes" not in each and not OWN.search(each)] == []
    assert not re.search(r"\bpipx\b|\bcurl\b[^\n]*\|\s*(?:ba)?sh\b", text)


def test_no_package_has_code_that_runs_at_every_start_of_python() -> None:
    folders = [Path(folder) for folder in site.getsitepackages()]
    found = sorted(path.name for folder in folders for path in folder.glob("*.pth"))
    assert [name for name in found if not STARTERS.fullmatch(name)] == []


def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND = {"name": "sound", "version": "1", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}
HOLED = {"name": "holed", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["2.1"]}]}


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        ([SOUND, HOLED, UNKNOWN], 1, "holed 2: X-1, fixed in 2.1"),
        ([SOUND], 0, "no known vulnerability in 1 packages"),
        ([SOUND, UNKNOWN], 0, "no known vulnerability in 1 packages; nothing is known of: unknown"),
        ([UNKNOWN], 0, "skipped: the database of vulnerabilities knows none of 1 packages"),
    ],
    ids=["holed", "sound", "partly", "unknown"],
)
def test_the_audit_says_what_is_known(
    found: list[dict[str, Any]], status: int, words: str
) -> None:
    assert audit().verdict(found) == (status, [words])
