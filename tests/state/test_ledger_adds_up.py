"""Whatever is charged, corrected, rolled up and archived, in whatever order and however often it is
sent or cut short: the entries, the counters and the roll-ups say the same."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from fleet.errors import InvalidConfig, InvalidRequest
from fleet.ledger import archive as ledger_archive
from fleet.ledger.archive import archive
from fleet.ledger.files import LedgerFiles
from fleet.ledger.reading import LedgerFilter, LedgerReader
from fleet.ledger.rules.entries import LedgerEntry, id_parts
from fleet.ledger.rules.sums import LedgerSums
from fleet.ledger.verification import verify
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection
from fleet.tasks.model_call import ModelCall
from fleet.tasks.store import Lease

DAY_MS = 86_400_000
TENANTS = ("acme", "a|b", "third")
MODELS = (("gpt-5", "openai"), ("claude", "anthropic"))


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


def lease(tenant: str) -> Lease:
    return Lease(
        f"task-{tenant}", 1, "type", tenant, 0.5, "gpt-5", 1, agent_type="agent", pool="pool"
    )


def charge(fleet: Connection, call: int, amount: int, tenant: str = "acme", model: int = 0) -> None:
    owner = lease(tenant)
    fleet.client.hset(fleet.keys.task(owner.task_id), "state", "running")
    usage = ("seen", "missing", "unpriced", "contradictory")[call % 4]
    tokens = (10 + amount, amount // 2, 3)
    step = ModelCall(*MODELS[model], "first", "ok", *tokens, amount, usage=usage)
    fleet.tasks.model_calls.settle(owner, call, step)


def age(fleet: Connection, days: int) -> None:
    """Let the newest entries have been written so many days ago: as the same entries, counted in
    the same windows, at the head of an empty stream."""
    found = fleet.ledger.entries.page("0-0").entries
    fleet.client.delete(fleet.keys.ledger)
    for entry in found:
        ms, number = entry.id.split("-")
        fields: Any = entry.fields
        fleet.client.xadd(fleet.keys.ledger, fields, id=f"{int(ms) - days * DAY_MS}-{number}")


def everything(fleet: Connection) -> list[LedgerEntry]:
    return list(itertools.chain(*LedgerReader(fleet.ledger).pages()))


class UsageStore(RuleBasedStateMachine):
    """Moves a ledger at random; after each move all of it adds up."""

    fleet: Connection

    def __init__(self) -> None:
        super().__init__()
        self.fleet.client.flushall()
        self.calls = itertools.count(1)
        self.charged = 0

    @rule(
        amount=st.integers(0, 10**12),
        tenant=st.sampled_from(TENANTS),
        model=st.integers(0, 1),
        times=st.integers(1, 3),
    )
    def charge(self, amount: int, tenant: str, model: int, times: int) -> None:
        call = next(self.calls)
        for _ in range(times):
            charge(self.fleet, call, amount, tenant, model)
        self.charged += amount

    @rule(pick=st.integers(0, 99), amount=st.integers(-(10**12), 10**12), times=st.integers(1, 3))
    def correct(self, pick: int, amount: int, times: int) -> None:
        entries = everything(self.fleet)
        if not entries:
            return
        entry, once = entries[pick % len(entries)], str(next(self.calls))
        for number in range(times):
            try:
                self.fleet.ledger.entries.correct(entry, amount, "ann", "why", once)
            except InvalidRequest:
                return
            self.charged += 0 if number else amount

    @rule()
    def roll_up(self) -> None:
        self.fleet.ledger.rollups.roll_up()

    @rule(size=st.integers(1, 5), times=st.integers(1, 3))
    def roll_up_a_part_and_die(self, size: int, times: int) -> None:
        before = self.fleet.ledger.rollups.cursor()
        entries = self.fleet.ledger.entries.page(before, size).entries
        sums = LedgerSums().add(entries).rolled()
        for _ in range(times if entries else 0):
            self.fleet.ledger.rollups.add(before, entries[-1].id, sums)

    @rule(size=st.integers(1, 5))
    def roll_up_from_where_the_cursor_was(self, size: int) -> None:
        entries = self.fleet.ledger.entries.page("0-0", size).entries
        if entries and self.fleet.ledger.rollups.cursor() > entries[-1].id:
            sums = LedgerSums().add(entries).rolled()
            assert not self.fleet.ledger.rollups.add("0-0", entries[-1].id, sums)

    @rule()
    def archive(self) -> None:
        archive(self.fleet.ledger, keep_days=-1)

    @rule(trims=st.booleans(), keep=st.integers(1, 5))
    def archive_a_part_and_die(self, trims: bool, keep: int) -> None:
        entries = self.fleet.ledger.entries.page("0-0", keep).entries
        if not entries:
            return
        name = LedgerFiles(self.fleet.settings.environment.data_dir).write(entries)
        if trims:
            # Without a roll-up of them Redis keeps the entries.
            self.fleet.ledger.entries.trim(name, entries[0].id, entries[-1].id)

    @rule()
    def verify(self) -> None:
        found = verify(self.fleet.ledger)
        assert found.differences == ()
        assert found.amount == self.charged

    @invariant()
    def all_of_it_adds_up(self) -> None:
        entries = everything(self.fleet)
        assert len({entry.id for entry in entries}) == len(entries)
        assert sum(entry.amount for entry in entries) == self.charged
        counted = LedgerSums().add(entries).counted()
        stored = self.fleet.budgets.usage.read().counters
        assert counted == {(s, w): each for s, found in stored.items() for w, each in found.items()}
        rollups, cursor = self.fleet.ledger.rollups, id_parts(self.fleet.ledger.rollups.cursor())
        rolled = LedgerSums().add(each for each in entries if id_parts(each.id) <= cursor).rolled()
        assert rolled == rollups.read(rollups.periods())

    def teardown(self) -> None:
        self.verify()


def test_entries_counters_and_roll_ups_say_the_same_whatever_happens(fleet: Connection) -> None:
    machine = type("Machine", (UsageStore,), {"fleet": fleet})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_verify_finds_a_counter_and_a_roll_up_that_are_off(fleet: Connection) -> None:
    charge(fleet, 1, 100)
    assert verify(fleet.ledger).differences == ()
    entry = everything(fleet)[0]
    _, day, month = entry.windows.split(",")
    fleet.client.hset(fleet.keys.money, f"{month} tenant:acme", "99,113,1")
    (field,) = fleet.client.hgetall(fleet.keys.rollup(day[1:]))
    fleet.client.hset(fleet.keys.rollup(day[1:]), field, "100,2,110,50,3,0,100,1,1,0")
    rolled, counted = verify(fleet.ledger).differences
    assert counted == ("counter", "tenant:acme", month, "amount", 100, 99)
    assert (rolled.where, rolled.window, rolled.figure) == ("roll-up", day, "requests")
    assert (rolled.entries, rolled.stored) == (1, 2)


def test_verify_finds_an_entry_that_was_taken_out(fleet: Connection) -> None:
    for call in (1, 2):
        charge(fleet, call, 100)
    fleet.ledger.rollups.roll_up()
    fleet.client.xdel(fleet.keys.ledger, everything(fleet)[0].id)
    found = {(each.where, each.figure) for each in verify(fleet.ledger).differences}
    assert ("counter", "amount") in found
    assert ("roll-up", "amount") in found


def test_counters_of_a_scope_without_entries_are_a_difference(fleet: Connection) -> None:
    fleet.client.hset(fleet.keys.money, "d20260101 tenant:ghost", "5,0,0")
    assert verify(fleet.ledger).differences == (
        ("counter", "tenant:ghost", "d20260101", "amount", 0, 5),
    )


def test_what_is_held_for_nobody_is_a_difference(fleet: Connection) -> None:
    charge(fleet, 1, 100)
    fleet.client.hset(fleet.keys.money, "held all", "777,9,0,1")
    assert verify(fleet.ledger).differences == (
        ("reserved", "all", "", "amount", 0, 777),
        ("reserved", "all", "", "tokens", 0, 9),
        ("reserved", "all", "", "tasks", 0, 1),
    )


def test_minutes_that_do_not_come_to_the_last_sixty_are_a_difference(fleet: Connection) -> None:
    charge(fleet, 1, 100)
    name = next(n for n in fleet.client.hkeys(fleet.keys.money) if b" " in n and n[:1] == b"r")
    fleet.client.hset(fleet.keys.money, b"r " + name.partition(b" ")[2], "1,113,1,0,0")
    (found,) = verify(fleet.ledger).differences
    assert (found.where, found.figure, found.entries, found.stored) == (
        *("last 60 minutes", "amount"),
        *(100, 1),
    )


@pytest.fixture
def old(fleet: Connection) -> list[LedgerEntry]:
    """Six entries, three of them ten days old, and as many of two days more."""
    for call in (1, 2, 3):
        charge(fleet, call, 100 * call)
    age(fleet, 2)
    for call in (4, 5, 6):
        charge(fleet, call, 100 * call)
    age(fleet, 10)
    charge(fleet, 7, 700)
    return everything(fleet)


def test_old_entries_move_into_a_file_for_each_day_and_are_read_from_there(
    fleet: Connection, old: list[LedgerEntry]
) -> None:
    names = archive(fleet.ledger)
    assert len(names) == len({name.partition("/")[0] for name in names}) == 2
    assert fleet.ledger.entries.page("0-0").entries == old[6:]
    assert everything(fleet) == old
    assert archive(fleet.ledger) == []
    assert verify(fleet.ledger).differences == ()


def test_an_archived_entry_can_be_found_and_corrected(
    fleet: Connection, old: list[LedgerEntry]
) -> None:
    archive(fleet.ledger)
    found = LedgerReader(fleet.ledger).find(old[4].id)
    assert found == old[4]
    fleet.ledger.entries.correct(found, -100, "ann", "billed less", "n")
    assert verify(fleet.ledger).differences == ()


def test_what_is_not_rolled_up_or_does_not_come_next_is_not_trimmed(
    fleet: Connection, old: list[LedgerEntry]
) -> None:
    assert not fleet.ledger.entries.trim("a/b.parquet", old[0].id, old[2].id)
    fleet.ledger.rollups.roll_up()
    assert not fleet.ledger.entries.trim("a/b.parquet", old[1].id, old[2].id)
    assert not fleet.ledger.entries.trim("a/b.parquet", old[0].id, "99999999999999-0")
    assert (everything(fleet), fleet.ledger.entries.archives()) == (old, [])
    assert fleet.ledger.entries.trim("a/b.parquet", old[0].id, old[2].id)
    assert fleet.ledger.entries.trim("a/b.parquet", old[0].id, old[2].id)
    assert (fleet.ledger.entries.length(), fleet.ledger.entries.archives()) == (4, ["a/b.parquet"])


DIES = """
import os, signal
from pathlib import Path
from fleet.ledger.files import LedgerFiles
from fleet.tasks.connection import open_connection
from fleet.ledger.archive import archive
from fleet.settings import load_settings
from fleet.ledger.store import Ledger

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

trim = Ledger.trim

def trim_and_die(*arguments):
    assert trim(*arguments)
    die()

"""
STOPS = {
    "before the file": "LedgerFiles.write = die",
    "before the rename": "Path.replace = die",
    "before the trim": "Ledger.trim = die",
    "after the trim": "Ledger.trim = trim_and_die",
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_an_archive_that_is_killed_loses_and_doubles_nothing(
    fleet: Connection, old: list[LedgerEntry], stop: str
) -> None:
    code = f"{DIES}{stop}\narchive(open_connection(load_settings()).ledger)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert everything(fleet) == old
    assert verify(fleet.ledger).differences == ()
    archive(fleet.ledger)
    assert fleet.ledger.entries.page("0-0").entries == old[6:]
    assert everything(fleet) == old
    assert verify(fleet.ledger).differences == ()


def test_what_a_killed_archive_left_is_removed_when_it_is_a_day_old(
    fleet: Connection, old: list[LedgerEntry]
) -> None:
    day = datetime.fromtimestamp(old[0].epoch, UTC).date()
    folder = LedgerFiles(fleet.settings.environment.data_dir).folder / str(day)
    folder.mkdir(parents=True)
    young, gone = folder / ".young.part", folder / ".gone.part"
    for path in (young, gone):
        path.touch()
    os.utime(gone, (0, 0))
    archive(fleet.ledger)
    assert list(folder.glob(".*")) == [young]


def test_entries_that_are_archived_while_they_are_read_are_read_once(
    fleet: Connection, old: list[LedgerEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = type(fleet.ledger.entries).page
    monkeypatch.setattr(type(fleet.ledger.entries), "page", lambda *a, most=2: pages(*a[:2], most))
    reading = LedgerReader(fleet.ledger).pages()
    found = next(reading)
    archive(fleet.ledger)
    assert [*found, *itertools.chain(*reading)] == old


def test_two_archives_at_once_make_the_same_files(
    fleet: Connection, old: list[LedgerEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LedgerFiles.write

    def overtaken(self: LedgerFiles, entries: Any) -> str:
        name = write(self, entries)
        monkeypatch.setattr(LedgerFiles, "write", write)
        archive(fleet.ledger)
        return name

    monkeypatch.setattr(LedgerFiles, "write", overtaken)
    archive(fleet.ledger)
    assert len(fleet.ledger.entries.archives()) == 2
    assert everything(fleet) == old


def test_many_entries_of_a_day_go_into_several_files(
    fleet: Connection, old: list[LedgerEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_archive, "MAX_ENTRIES", 2)
    assert len(archive(fleet.ledger)) == 4
    assert everything(fleet) == old


def test_a_file_of_the_archive_that_is_not_here_is_an_error(
    fleet: Connection, old: list[LedgerEntry]
) -> None:
    (name, _) = archive(fleet.ledger)
    (LedgerFiles(fleet.settings.environment.data_dir).folder / name).unlink()
    with pytest.raises(InvalidConfig, match="the folder that the fleet's workers share"):
        everything(fleet)


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (LedgerFilter(tenant="acme"), "134567"),
        (LedgerFilter(tenant="third", kind="step"), "2"),
        (LedgerFilter(model="claude"), "7"),
        (LedgerFilter(task="task-acme", model="gpt-5"), "13456"),
    ],
)
def test_entries_are_found_by_their_names(
    fleet: Connection, wanted: LedgerFilter, calls: str
) -> None:
    for call in range(1, 8):
        charge(fleet, call, 5, "third" if call == 2 else "acme", int(call == 7))
    found = itertools.chain(*LedgerReader(fleet.ledger).matching(wanted))
    assert "".join(entry.call.rpartition(".")[2] for entry in found) == calls
