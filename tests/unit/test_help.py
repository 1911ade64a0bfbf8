"""The help of the command line."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from fleet.cli.main import app

COMMANDS = (
    *("up", "down", "status", "demo", "submit", "tasks", "task", "explain", "cancel", "rate"),
    *("pools", "pools list", "pools drain", "pools resume", "route", "route set", "route clear"),
    *("route show", "route strategies"),
    *("scale", "scale set", "scale auto", "scale policy", "scale history"),
    "scale plan",
    *("models", "models refresh", "models train", "models resume", "rate"),
    *("agents", "agents list", "agents drain", "agents resume", "config check", "config show"),
    *("ledger", "ledger verify", "ledger show", "ledger export", "ledger correct"),
    "ledger reconcile",
    *("dead list", "dead show", "dead retry", "dead drop"),
    *("limits", "limits set", "limits show", "limits clear"),
    *("budget", "budget set", "budget clear", "budget policy", "budget show"),
    "budget alerts",
    *("access grant", "access list", "access rotate", "access revoke", "access whoami"),
    *("secrets", "secrets set", "secrets get", "secrets list", "secrets history"),
    *("secrets rotate", "secrets revoke", "secrets status"),
    *("emergency", "emergency on", "emergency off", "emergency show"),
    *("audit", "audit show", "audit verify", "audit export", "audit accept"),
    *("redis", "redis acl"),
    *("simulate", "spend", "deploy smoke", "deploy watch"),
    *(f"service {name}" for name in ("broker", "model", "worker", "beat", "flower", "ops")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output


def test_without_a_command_the_help_names_where_to_begin() -> None:
    assert "fleet demo" in CliRunner().invoke(app, []).output


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"fleet {version('fleet')}\n"


def test_the_help_of_all_imports_nothing_heavy() -> None:
    heavy = (
        "celery kombu redis pydantic numpy pyarrow matplotlib kubernetes starlette uvicorn "
        "fleet.settings"
    )
    code = (
        "import sys\nfrom fleet.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n"
        f"    print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_each_listed_command_is_there() -> None:
    listed = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output.split())
    for name in {command.split()[0] for command in COMMANDS}:
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "300"}).output
        assert f"│ {name} " in listed
        assert shown.splitlines()[1].split()[1:3] == ["fleet", name]


def test_an_unknown_command_is_refused() -> None:
    refused = CliRunner().invoke(app, ["flee"])
    assert refused.exit_code == 2
    assert "No such command 'flee'" in refused.output
