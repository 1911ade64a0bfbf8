"""The audit in Redis: entries are chained in the step that writes them, anchored, and trimmed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import structlog
from tcp_proxy import Proxy

from fleet.audit.log import AuditLog
from fleet.audit.origin import Origin
from fleet.audit.reads import MAX_ROWS, ReadLog
from fleet.audit.rules import Head, entry_hash, verify
from fleet.errors import NotAllowed, SecretConflict, SecretNotFound, Unavailable
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.redis.client import connect
from fleet.redis.scripts import Scripts
from fleet.secrets.anchor import PATH, Anchors, accept_broken, move_anchor
from fleet.secrets.values import Secret, SecretVersion
from fleet.settings import Settings
from fleet.tasks.connection import Connection, open_connection

OPS = Origin("ops", "host:1")
DAILY = LimitKey("tenant:a|b é\n", "day", "dollars")


@dataclass
class MemoryStore:
    """A store of secrets in memory."""

    name: str = "memory"
    is_writable: bool = True
    kept: dict[int, dict[str, str] | None] = field(default_factory=dict)

    def read(self, path: str, version: int | None = None) -> Secret:
        assert path == PATH
        if not self.kept:
            raise SecretNotFound(path)
        newest = max(self.kept)
        return Secret(path, newest, self.kept[newest] or {}, 0.0, self.name)

    def write(self, path: str, fields: dict[str, str], expected: int) -> int:
        if not self.is_writable:
            raise NotAllowed("read only")
        if expected != max(self.kept, default=0):
            raise SecretConflict(path)
        self.kept[expected + 1] = dict(fields)
        return expected + 1

    def versions(self, path: str) -> list[SecretVersion]:
        return [SecretVersion(number, 0.0, not kept) for number, kept in self.kept.items()]

    def paths(self, prefix: str = "") -> list[str]:
        return [PATH]

    def destroy(self, path: str, version: int) -> None:
        self.kept[version] = None


@pytest.fixture
def fleet(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Connection:
    return open_connection(settings_of(""))


@pytest.fixture
def log(fleet: Connection) -> AuditLog:
    return fleet.policy.audit


def change(fleet: Connection, number: int) -> None:
    fleet.policy.store.set_limits({DAILY: number}, AuditActor("ops", "why not: é"))


def test_changes_acts_and_reads_are_one_chain(fleet: Connection, log: AuditLog) -> None:
    change(fleet, 1)
    log.act("reveal", "providers/openai", 3, OPS, why="an incident")
    log.append("grant", {"what": "create", "about": "tenant:acme", **OPS._asdict()})
    fleet.policy.store.set_difficulty(b"\x00\xff" * 500, AuditActor("ops", ""))
    chain = log.chain()
    assert [entry.kind for entry in chain.entries] == ["policy", "secret", "grant", "policy"]
    assert [entry.seq for entry in chain.entries] == [1, 2, 3, 4]
    assert verify(chain).is_intact
    seconds, _ = fleet.client.time()
    assert all(abs(seconds - entry.at_ms / 1000) < 60 for entry in chain.entries)
    assert chain.entries[1].facts == {
        "kind": "secret", "what": "reveal", "path": "providers/openai", "version": "3",
        "by": "ops", "where": "host:1", "why": "an incident",
    }  # fmt: skip
    assert [entry.seq for entry in log.newest()] == [4, 3, 2, 1]


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 128, 1000])
def test_the_script_hashes_as_python_does(log: AuditLog, fleet: Connection, size: int) -> None:
    odd = "é\x00\n\udcff"
    fleet.policy.store.set_limits({DAILY: 1}, AuditActor("x" * size, odd[:-1]))
    log.append("secret", {"what": "x" * size, odd: odd})
    first, second = log.chain().entries
    assert first.hash == entry_hash("0" * 64, first)
    assert second.hash == entry_hash(first.hash, second)
    assert second.facts[odd] == odd


def test_writers_do_not_break_each_others_chain(fleet: Connection, log: AuditLog) -> None:
    def write(writer: int) -> None:
        for number in range(20):
            log.act("set", f"writer{writer}", number, OPS)
            change(fleet, 1000 * writer + number + 1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    chain = log.chain()
    assert verify(chain).is_intact
    assert len(chain.entries) == chain.head.last.seq == 160


def test_an_entry_whose_answer_was_lost_is_written_once(
    log: AuditLog, fleet: Connection, proxy: Proxy
) -> None:
    client = connect(f"redis://127.0.0.1:{proxy.port}/0", 5)
    far = AuditLog(client, fleet.keys, Scripts(client))
    far.act("set", "a", 1, OPS)
    proxy.lose_an_answer()
    assert far.act("set", "a", 2, OPS) == 2
    assert proxy.has_lost_it()
    assert [entry.facts["version"] for entry in log.chain().entries] == ["1", "2"]


def test_entries_of_an_earlier_version_stay_in_front(fleet: Connection, log: AuditLog) -> None:
    old = {"version": "0", "field": "over||", "before": "", "after": "wait", "by": "x", "why": ""}
    fleet.client.xadd(fleet.keys.audit, old)
    change(fleet, 1)
    verdict = verify(log.chain())
    assert (verdict.is_intact, verdict.before_chain, verdict.first) == (True, 1, 1)


def test_what_is_done_to_the_stream_is_found(fleet: Connection, log: AuditLog) -> None:
    for number in range(6):
        log.act("set", "a", number, OPS)
    entries, key, head = log.chain().entries, fleet.keys.audit, fleet.keys.audit_head
    dump, head_dump = fleet.client.dump(key), fleet.client.dump(head)

    def texts(do: Callable[[], Any]) -> list[str]:
        fleet.client.restore(key, 0, dump, replace=True)
        fleet.client.restore(head, 0, head_dump, replace=True)
        do()
        return [problem.text for problem in verify(log.chain(), Head(entries[-1].point)).problems]

    delete, client = fleet.client.xdel, fleet.client
    assert texts(lambda: None) == []
    assert texts(lambda: delete(key, entries[2].id)) == ["entry 3 is missing after entry 2"]
    assert texts(lambda: client.xtrim(key, 4, approximate=False)) == [
        "entries 1 to 2 are missing at the beginning"
    ]
    assert texts(lambda: delete(key, entries[5].id)) == ["entry 6 is missing at the end"]
    assert "has no number or hash" in texts(lambda: client.xadd(key, {"by": "x"}))[0]
    forged = {**entries[5].fields, "seq": "7"}
    assert "entry 7" in texts(lambda: client.xadd(key, forged))[0]
    assert texts(lambda: client.delete(key, head)) == [
        "entries 1 to 6 are missing at the end: the anchor names them"
    ]
    assert texts(lambda: client.delete(head)) != []


def test_the_anchor_follows_the_chain_and_old_entries_are_trimmed(
    fleet: Connection, log: AuditLog
) -> None:
    store = MemoryStore()
    anchors = Anchors(store)
    assert anchors.read() is None
    for number in range(30):
        log.act("set", "a", number, OPS)
        if number % 10 == 9:
            assert move_anchor(log, anchors, 12) == ()
            assert log.size() <= 12
    anchor, chain = anchors.read(), log.chain()
    assert anchor == chain.head == Head(chain.entries[-1].point, anchor.trimmed)
    assert anchor.trimmed.seq == 18
    verdict = verify(chain, anchor)
    assert (verdict.is_intact, verdict.first, verdict.trimmed) == (True, 19, 18)
    assert [number for number, kept in store.kept.items() if kept] == [3]
    assert move_anchor(log, anchors, 12) == ()
    assert len(store.kept) == 3  # Nothing is new, so nothing is written.
    log.trim(chain.entries[3])
    assert [each.kind for each in verify(log.chain(), anchor).problems] == ["trimmed"]


def test_the_anchor_stays_at_a_broken_chain_until_somebody_accepts_it(
    fleet: Connection, log: AuditLog
) -> None:
    anchors = Anchors(MemoryStore())
    for number in range(3):
        log.act("set", "a", number, OPS)
    move_anchor(log, anchors)
    log.act("set", "a", 3, OPS)
    fleet.client.xadd(fleet.keys.audit, {"by": "somebody"})
    with structlog.testing.capture_logs() as logs:
        (problem,) = move_anchor(log, anchors)
    assert problem.kind == "inserted"
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "audit is broken, anchor not moved")
    ]
    assert anchors.read().last.seq == 3
    assert accept_broken(log, anchors, OPS, "a test") == (problem,)
    assert next(log.newest()).facts["why"] == "a test"
    log.act("set", "a", 4, OPS)
    assert move_anchor(log, anchors) == ()
    assert anchors.read().last.seq == 6
    # The broken place is still found.
    assert [each.kind for each in verify(log.chain(), anchors.read()).problems] == ["inserted"]


def test_a_broken_audit_is_trimmed_in_the_end(fleet: Connection, log: AuditLog) -> None:
    anchors = Anchors(MemoryStore())
    for number in range(10):
        log.act("set", "a", number, OPS)
        fleet.client.xdel(fleet.keys.audit, log.chain().entries[0].id)
    for number in range(10):
        log.act("set", "b", number, OPS)
    assert move_anchor(log, anchors, 4)
    assert log.size() == 8


def test_without_a_store_that_can_be_written_the_log_has_the_anchor(log: AuditLog) -> None:
    log.act("set", "a", 1, OPS)
    for anchors in (None, Anchors(MemoryStore(is_writable=False))):
        with structlog.testing.capture_logs() as logs:
            assert move_anchor(log, anchors) == ()
        assert (logs[-1]["where"], logs[-1]["seq"]) == ("log", 1)
        assert logs[-1]["hash"] == log.head().last.hash


def test_reads_are_noted_in_memory_and_appended_together(log: AuditLog) -> None:
    now = [100.0]
    reads = ReadLog(log, by="agent-7", seconds=3600, monotonic=lambda: now[0])
    for _ in range(3):
        reads.note("providers/openai", 2, "use")
        now[0] += 1
    reads.note("providers/gone", 0, "read", "SecretNotFound")
    assert log.size() == 0
    assert reads.flush() == 2
    assert reads.flush() == 0
    (entry,) = log.chain().entries
    assert (entry.kind, entry.facts["by"]) == ("reads", "agent-7")
    assert entry.facts["where"].endswith(f":{os.getpid()}")
    assert json.loads(entry.facts["reads"]) == [
        {"path": "providers/openai", "version": 2, "what": "use", "outcome": "ok",
         "times": 3, "first_ms_ago": 3000, "last_ms_ago": 1000},
        {"path": "providers/gone", "version": 0, "what": "read", "outcome": "SecretNotFound",
         "times": 1, "first_ms_ago": 0, "last_ms_ago": 0},
    ]  # fmt: skip
    reads.close()


def test_reads_wait_while_redis_is_away_and_are_bounded(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> int:
        raise Unavailable("away")

    reads = ReadLog(log, seconds=3600)
    for number in range(MAX_ROWS + 5):
        reads.note(f"p{number}", 1)
    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "append", away)
        with pytest.raises(Unavailable):
            reads.flush()
        reads.note("p0", 1)
        reads.note("late", 1)
    assert reads.flush() == MAX_ROWS
    (entry,) = log.chain().entries
    assert json.loads(entry.facts["reads"])[0]["times"] == 2
    assert entry.facts["not_listed"] == "6"
    reads.close()


def test_reads_are_appended_by_themselves(log: AuditLog) -> None:
    reads = ReadLog(log, seconds=0.01)
    reads.note("providers/openai", 2)
    timer = reads._timer
    assert timer is not None
    timer.join(30)
    assert log.size() == 1
