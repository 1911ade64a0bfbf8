"""`fleet ledger`, as commands."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
from commands import run_fleet

from fleet.ledger.archive import archive
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

Command = Callable[..., subprocess.CompletedProcess[str]]
DOLLAR = 10**9


@pytest.fixture
def state(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    """A fleet with three charged steps: two of gpt-5 for acme, one of claude for other."""
    fleet = open_connection(settings_of(""))
    charge(fleet, 1, "acme", ModelCall("gpt-5", "openai", "first", "ok", 100, 40, 20, 2 * DOLLAR))
    charge(fleet, 2, "acme", ModelCall("gpt-5", "openai", "again", "ok", 50, 0, 10, DOLLAR))
    charge(fleet, 3, "other", ModelCall("claude", "anthropic", "first", "ok", 7, 0, 3, DOLLAR // 2))
    return fleet


def charge(fleet: Connection, call: int, tenant: str, step: ModelCall) -> None:
    lease = Lease(f"t{call}", 1, "code_generation", tenant, 0.5, step.model, 1, pool="codegen")
    fleet.client.hset(fleet.keys.task(lease.task_id), "state", "running")
    fleet.tasks.model_calls.settle(lease, call, step)


@pytest.fixture
def ledger(state: Connection, tmp_path: Path) -> Command:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_fleet("ledger", *arguments, folder=tmp_path)

    return run


def answer(done: subprocess.CompletedProcess[str], status: int = 0) -> Any:
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def ids(ledger: Command) -> list[str]:
    return [entry["id"] for entry in answer(ledger("show", "--json"))]


def test_show_lists_the_newest_entries_first(ledger: Command) -> None:
    entries = answer(ledger("show", "--limit", "2", "--json"))
    assert [entry["task"] for entry in entries] == ["t3", "t2"]
    shown = ledger("show").stdout
    assert entries[0]["id"] in shown
    assert "$0.5" in shown


def test_verify_says_that_all_of_it_adds_up(ledger: Command) -> None:
    found = answer(ledger("verify", "--json"))
    assert (found["adds_up"], found["entries"], found["amount"]) == (True, 3, 3_500_000_000)
    assert "the ledger adds up" in ledger("verify").stdout


def test_verify_lists_what_does_not_add_up_and_fails(ledger: Command, state: Connection) -> None:
    (window, *_) = state.budgets.usage.read().counters["all"]
    state.client.hset(state.keys.money, f"{window} all", "1,190,3")
    (difference,) = answer(ledger("verify", "--json"), 1)["differences"]
    assert (difference["of"], difference["entries"], difference["stored"]) == (
        *("all", 3_500_000_000),
        1,
    )
    done = ledger("verify")
    assert done.returncode == 1
    assert window in done.stdout
    assert "adds up" not in done.stdout


def test_every_format_holds_the_same_entries(ledger: Command, tmp_path: Path) -> None:
    for form in ("csv", "json", "parquet"):
        done = ledger("export", "--format", form, "-o", f"out.{form}")
        assert done.returncode == 0, done.stderr
        assert f"3 entries written to out.{form}" in done.stderr
    as_csv = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    as_json = json.loads((tmp_path / "out.json").read_text())
    as_parquet = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [{k: str(v) for k, v in each.items()} for each in as_json] == as_csv
    assert [{k: v for k, v in each.items() if k != "time"} for each in as_json] == as_parquet
    assert [each["amount"] for each in as_parquet] == [2 * DOLLAR, DOLLAR, DOLLAR // 2]


def test_an_export_takes_archived_entries_and_filters(ledger: Command, state: Connection) -> None:
    archive(state.ledger, keep_days=-1)
    assert state.ledger.entries.length() == 0
    done = ledger("export", "--tenant", "acme", "--model", "gpt-5")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["task"] for row in rows] == ["t1", "t2"]
    day = state.ledger.rollups.today()
    assert len(json.loads(ledger("export", "--format", "json", "--from", f"{day}").stdout)) == 3
    assert json.loads(ledger("export", "--format", "json", "--to", "2020-01-01").stdout) == []
    assert answer(ledger("verify", "--json"))["entries"] == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--format", "parquet"), "name a file with --output"),
        (("--from", "2026-02-02", "--to", "2026-02-01"), "exchange them"),
        (("-o", "absent/out.csv"), "cannot be written"),
        (("--format", "xml"), "xml"),
        (("--from", "yesterday"), "yesterday"),
    ],
)
def test_a_bad_export_is_refused_and_writes_nothing(
    ledger: Command, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    before = set(tmp_path.rglob("*"))
    refused(ledger("export", *arguments), says)
    assert set(tmp_path.rglob("*")) == before


def test_a_correction_is_made_once_and_the_ledger_still_adds_up(ledger: Command) -> None:
    entry = ids(ledger)[0]
    wanted = (entry, "--amount", "-0.25", "--why", "billed less", "--once", "bill 7", "--json")
    first = answer(ledger("correct", *wanted))
    assert answer(ledger("correct", *wanted)) == first
    assert first["amount"] == -250_000_000
    assert ids(ledger)[0] == first["correction"]
    assert answer(ledger("verify", "--json"))["amount"] == 3_250_000_000


@pytest.mark.parametrize(
    ("amount", "why", "says"),
    [
        ("x", "w", "'x' is no number of dollars"),
        ("nan", "w", "nan is no number of dollars up to 1,000,000,000,000"),
        ("0", "w", "of 0 changes nothing"),
        ("-0.6", "w", "would be less than 0"),
        ("-0.1", " ", "give a reason"),
    ],
)
def test_a_bad_correction_is_refused(ledger: Command, amount: str, why: str, says: str) -> None:
    before = ids(ledger)
    refused(ledger("correct", before[0], "--amount", amount, "--why", why), says)
    assert ids(ledger) == before


def test_an_unknown_entry_cannot_be_corrected(ledger: Command) -> None:
    for entry, says in (("1-1", "has no entry 1-1"), ("x", "'x' is no id of a ledger entry")):
        refused(ledger("correct", entry, "--amount", "1", "--why", "w"), says)


HEAD = "date,model,input_tokens,cached_input_tokens,output_tokens,cost_usd,key\n"


def bill(state: Connection, tmp_path: Path, *lines: str) -> str:
    day = state.ledger.rollups.today()
    (tmp_path / "bill.csv").write_text(HEAD + "".join(f"{day},{line}\n" for line in lines))
    return "bill.csv"


def test_a_bill_that_agrees_has_no_differences(
    ledger: Command, state: Connection, tmp_path: Path
) -> None:
    file = bill(state, tmp_path, "gpt-5,100,40,20,2.00,one", "gpt-5,50,0,10,1.00,two")
    found = answer(ledger("reconcile", file, "--json"))
    assert found == {"agrees": True, "compared": 1, "differences": []}


def test_differences_are_listed_with_amount_and_tokens(
    ledger: Command, state: Connection, tmp_path: Path
) -> None:
    file = bill(state, tmp_path, "gpt-5,160,40,30,3.02,one")
    found = answer(ledger("reconcile", file, "--json"), 1)
    (line,) = found["differences"]
    more = {"input": 10, "cached": 0, "output": 0, "amount": 20_000_000, "requests": 0}
    assert line["difference"] == more
    tolerated = answer(ledger("reconcile", file, "--tolerance", "0.02", "--json"))
    assert tolerated["differences"] == found["differences"]
    done = ledger("reconcile", file)
    assert done.returncode == 1
    assert "$0.02" in done.stdout
    assert "+10" in done.stdout


def test_requests_are_compared_where_the_bill_tells_them(
    ledger: Command, state: Connection, tmp_path: Path
) -> None:
    head = "date,model,input_tokens,output_tokens,cost_usd,requests\n"
    today = state.ledger.rollups.today()
    steps = sum(
        row.requests for row in state.ledger.rollups.rows(today, today) if row.model == "gpt-5"
    )
    assert steps > 0
    line = f"{today},gpt-5,150,30,3.00,"
    (tmp_path / "bill.csv").write_text(f"{head}{line}{steps}\n")
    assert answer(ledger("reconcile", "bill.csv", "--json"))["differences"] == []
    (tmp_path / "bill.csv").write_text(f"{head}{line}{steps + 4}\n")
    found = answer(ledger("reconcile", "bill.csv", "--json"))
    assert found["agrees"]
    assert [each["difference"]["requests"] for each in found["differences"]] == [4]
    (tmp_path / "bill.csv").write_text(f"{head}{line}-1\n")
    refused(ledger("reconcile", "bill.csv"), "requests are under 0")


def test_what_only_one_side_has_is_a_difference(
    ledger: Command, state: Connection, tmp_path: Path
) -> None:
    file = bill(state, tmp_path, "gpt-4o,1,0,1,0.5,one")
    found = answer(ledger("reconcile", file, "--provider", "openai", "--json"), 1)
    amounts = {line["model"]: line["difference"]["amount"] for line in found["differences"]}
    assert amounts == {"gpt-4o": 500_000_000, "gpt-5": -3_000_000_000}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("date,model\n", "has no column input_tokens, output_tokens, cost_usd"),
        (HEAD, "has no lines"),
        (HEAD + "24.11.2026,gpt-5,1,0,1,1,k\n", "line 2"),
        (HEAD + "2026-11-24,gpt-5,-1,0,1,1,k\n", "tokens are under 0"),
        (HEAD + "2026-11-24,gpt-5,1,0,1,much,k\n", "'much' is no number of dollars"),
        (HEAD + "2026-11-24,,1,0,1,1,k\n", "it names no model"),
        (HEAD + "2026-11-24,gpt-5\n", "line 2"),
    ],
)
def test_a_file_that_is_no_usage_export_is_refused(
    ledger: Command, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "bill.csv").write_text(content)
    refused(ledger("reconcile", "bill.csv"), says)


def test_a_tolerance_that_is_no_amount_is_refused(ledger: Command) -> None:
    refused(ledger("reconcile", "bill.csv", "--tolerance", "some"), "--tolerance: 'some' is no")
