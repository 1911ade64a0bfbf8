"""The help of the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from fleet.cli.main import app

COMMANDS = (
    *("up", "down", "status", "demo", "submit", "tasks", "task", "explain", "cancel", "rate"),
    *("pools", "pools list", "pools drain", "pools resume", "route", "route set", "route clear"),
    *("route show", "route strategies"),
    *("models", "models refresh", "models train", "models resume", "rate"),
    *("agents", "agents list", "agents drain", "agents resume", "config check", "config show"),
    *("ledger", "ledger verify", "ledger show", "ledger export", "ledger correct"),
    "ledger reconcile",
    *("dead list", "dead show", "dead retry", "dead drop"),
    *("limits", "limits set", "limits show", "limits clear"),
    *("budget", "budget set", "budget clear", "budget policy", "budget show"),
    "budget alerts",
    *("emergency", "emergency on", "emergency off", "emergency show", "audit"),
    *("simulate", "spend"),
    *(f"service {name}" for name in ("broker", "model", "worker", "beat", "flower")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_helps_with_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output


def test_without_a_command_the_help_names_where_to_begin() -> None:
    assert "fleet demo" in CliRunner().invoke(app, []).output
