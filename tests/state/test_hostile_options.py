"""Options and arguments that nobody should give: each is a sentence and an exit status."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from typer.testing import CliRunner

from fleet.cli.main import app
from fleet.errors import FleetError
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e400", "9" * 5000, "1e308", "x", "", "\u0663", "0x1")
DAYS = ("0001-01-01", "9999-12-31", "2026-02-30", "now", "", "2026-W48-1", "1" * 100)
NAMES = ("[red]", "", "x" * 5000, "\x1b[31m", "\u202e", "*", "{0}", "tenant:", ":", "a b")
WHY = ("--why", "a test")
TEMPLATES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("budget", "set", "all", "--window", "day", *WHY, "--dollars", "?"), NUMBERS),
    (("budget", "set", "all", "--window", "day", *WHY, "--tokens", "?"), NUMBERS),
    (("budget", "set", "?", "--window", "day", *WHY, "--dollars", "5"), NAMES),
    (("limits", "set", "all", *WHY, "--dollars", "?"), NUMBERS),
    (("limits", "set", "all", *WHY, "--concurrent", "?"), NUMBERS),
    (("limits", "set", "?", *WHY, "--tokens", "5"), NAMES),
    (("limits", "clear", "?", *WHY), NAMES),
    (("route", "set", "weighted", "--weight", "load=?"), NUMBERS),
    (("route", "set", "scored", "--weight", "load=?"), NUMBERS),
    (("route", "set", "?"), NAMES),
    (("route", "set", "least_loaded", "--tenant", "?"), NAMES),
    (("route", "set", "least_loaded", "--request-type", "?"), NAMES),
    (("route", "clear", "--tenant", "?"), NAMES),
    (("budget", "policy", "?", *WHY), NAMES),
    (("emergency", "on", "--by", "?", *WHY), NAMES),
    (("ledger", "correct", "?", "--amount", "1", "--why", "x"), NAMES),
    (("ledger", "correct", "1-1", "--amount", "?", "--why", "x"), NUMBERS),
    (("ledger", "export", "--from", "?"), DAYS),
    (("ledger", "export", "--to", "?"), DAYS),
    (("ledger", "reconcile", "?"), ("/", "/dev/null", "none", "", "\x01")),
    (("ledger", "reconcile", "/dev/null", "--tolerance", "?"), NUMBERS),
    (("spend", "--from", "?"), DAYS),
    (("spend", "--to", "?"), DAYS),
    (("spend", "--days", "?"), NUMBERS),
    (("spend", "--tenant", "?"), NAMES),
    (("dead", "list", "--older-than", "?"), NUMBERS),
    (("dead", "show", "?"), NAMES),
    (("dead", "retry", "?"), NAMES),
    (("dead", "drop", "?"), NAMES),
    (("task", "?"), NAMES),
    (("explain", "?"), NAMES),
    (("cancel", "?"), NAMES),
    (("rate", "none", "?"), NUMBERS),
    (("tasks", "--state", "?"), NAMES),
    (("tasks", "--tenant", "?"), NAMES),
    (("submit", "?", "{}"), NAMES),
    (("submit", "code_generation", "?"), ("[", "{", "5", "null", '"', "@/", "@none", "@", "\x01")),
    (("submit", "code_generation", '{"instruction":"x"}', "--complexity", "?"), NUMBERS),
    (("submit", "code_generation", '{"instruction":"x"}', "--max-cost-usd", "?"), NUMBERS),
    (("submit", "code_generation", '{"instruction":"x"}', "--delay", "?"), NUMBERS),
    (("submit", "code_generation", '{"instruction":"x"}', "--priority", "?"), NUMBERS),
    (("submit", "code_generation", '{"instruction":"x"}', "--quality", "?"), NUMBERS),
    (("submit", "code_generation", '{"instruction":"x"}', "--tenant", "?"), NAMES),
    (("submit", "code_generation", '{"instruction":"x"}', "--model", "?"), NAMES),
    (("submit", "code_generation", '{"instruction":"x"}', "--pool", "?"), NAMES),
    (("submit", "code_generation", '{"instruction":"x"}', "--idempotency-key", "?"), NAMES),
    (("simulate", "--synthetic", "--tasks", "50", "--rate", "?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--mean-seconds", "?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--cv", "?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--snapshot-age", "?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--producers", "?"), ("-1", "0", "x", "nan")),
    (("simulate", "--synthetic", "--tasks", "50", "--mix", "code_generation=?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--mix", "?"), NAMES),
    (("simulate", "--synthetic", "--tasks", "50", "--weights", "load=?"), NUMBERS),
    (("simulate", "--synthetic", "--tasks", "50", "--strategy", "?"), NAMES),
    (("simulate", "--csv", "?"), ("/", "/dev/null", "none", "", "\x01")),
    (("simulate", "--synthetic", "--pools", "?"), ("/", "none", "", "\x01")),
)


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    pool = '[pools.codegen]\nagent_type = "code_generator"\nslots = 2'
    found = open_connection(settings_of(pool))
    found.routing.agents.register("codegen-1", "codegen", 2, {})
    return found


def look(template: tuple[str, ...], values: tuple[str, ...]) -> None:
    for value in values:
        command = [part.replace("?", value) for part in template]
        done = CliRunner().invoke(app, command)
        known = done.exception is None or isinstance(done.exception, (SystemExit, FleetError))
        assert known, (command, done.exception)
        assert "\x1b[31m" not in done.output


@pytest.mark.slow
@pytest.mark.parametrize(("template", "values"), TEMPLATES, ids=[" ".join(t) for t, _ in TEMPLATES])
def test_whatever_an_option_says(
    fleet: Connection, template: tuple[str, ...], values: tuple[str, ...]
) -> None:
    look(template, values)


def test_figures_that_overflow_are_told(fleet: Connection) -> None:
    synthetic = ("simulate", "--synthetic", "--tasks", "50")
    look((*synthetic, "--cv", "?"), ("1e308", "nan"))
    look((*synthetic, "--mix", "code_generation=?"), ("1e308",))
    look(("spend", "--to", "?"), DAYS[:2])
    look(("budget", "set", "all", "--window", "day", *WHY, "--dollars", "?"), NUMBERS[:6])
    look(("submit", "code_generation", "?"), ("[", "@none", "@/"))


def test_bytes_that_are_no_text_are_told(fleet: Connection) -> None:
    for command in ("task ?", "explain ?", "cancel ?", "rate ? 1", "dead show ?", "dead drop ?"):
        look(tuple(command.split()), ("\udcff",))
    look(("agents", "drain", "?"), ("\udcff",))
    look(("submit", "code_generation", "--set", "instruction=?"), ("\udcff",))
