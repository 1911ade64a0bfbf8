"""The chain of hashes: how an entry is chained to the one before it, and what breaks the chain.

The hash of an entry is SHA-256("PREVIOUS SEQ AT DIGEST"). PREVIOUS is the hash of the entry before
it, or 64 zeros. SEQ counts from 1, AT is ms since 1970 by Redis's clock. DIGEST is the SHA-256 of
the names and values of the other fields, each as "LENGTH:BYTES". `lua/parts/chain.lua` computes
the same in the step that writes the entry, so no writer waits for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

SEQ, AT, HASH, KIND = "seq", "at", "hash", "kind"
CHAINED = (SEQ, AT, HASH)
"""The fields that the chain itself writes."""
MAX_DIGITS = 15


class Point(NamedTuple):
    """A place in the chain: the number of an entry, and its hash."""

    seq: int
    hash: str


START = Point(0, "0" * 64)
"""The point before the first entry."""


class Head(NamedTuple):
    """Where the chain ends, and the last entry that was trimmed at its beginning."""

    last: Point = START
    trimmed: Point = START


class AuditEntry(NamedTuple):
    """An entry of the audit. `id` is its id in the stream, `fields` are in the order written."""

    id: str
    fields: Mapping[str, str]

    @property
    def seq(self) -> int:
        """Its number in the chain; 0 if it has none."""
        return _number(self.fields.get(SEQ, ""))

    @property
    def at_ms(self) -> int:
        """When it was written, in ms since 1970 by Redis's clock."""
        return _number(self.fields.get(AT, "")) or _number(self.id.partition("-")[0])

    @property
    def hash(self) -> str:
        """Its hash; empty if it has none."""
        return self.fields.get(HASH, "")

    @property
    def kind(self) -> str:
        """`policy`, `secret`, `reads`, `grant` or `anchor`; entries of an earlier version had none.
        """
        return self.fields.get(KIND, "policy")

    @property
    def facts(self) -> dict[str, str]:
        """What the entry tells: its fields without those of the chain."""
        return {name: value for name, value in self.fields.items() if name not in CHAINED}

    @property
    def point(self) -> Point:
        """Its place in the chain."""
        return Point(self.seq, self.hash)


class Chain(NamedTuple):
    """Entries, oldest first, with the head at the time when they were read."""

    entries: Sequence[AuditEntry]
    head: Head


@dataclass(frozen=True, slots=True)
class Problem:
    """A place where the chain is broken. `kind` is `changed`, `missing`, `order`, `inserted`,
    `head`, `anchor` or `trimmed`, `seq` the number of the entry there."""

    kind: str
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verification of a chain has found. `before_chain` counts entries of an earlier
    version of Fleet, which have no hash and are not covered. `anchored` is the number of the entry
    up to which an anchor outside Redis confirms the chain; None without an anchor."""

    first: int
    last: int
    before_chain: int
    trimmed: int
    anchored: int | None
    problems: tuple[Problem, ...]

    @property
    def is_intact(self) -> bool:
        return not self.problems


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS else 0


def raw(text: str) -> bytes:
    """The bytes of a text that was read with `surrogateescape`."""
    return text.encode("utf-8", "surrogateescape")


def facts_digest(facts: Mapping[str, str]) -> str:
    """The SHA-256 of names and values in their order."""
    parts = (raw(text) for pair in facts.items() for text in pair)
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()


def entry_hash(previous: str, entry: AuditEntry) -> str:
    """The hash that an entry has to have after an entry with the hash `previous`."""
    seq, at = entry.fields.get(SEQ, ""), entry.fields.get(AT, "")
    text = f"{previous} {seq} {at} {facts_digest(entry.facts)}"
    return sha256(raw(text)).hexdigest()


def verify(chain: Chain, anchor: Head | None = None) -> Verdict:
    """Check a chain from its first entry to its head, and against an anchor outside Redis."""
    head = chain.head
    old = _before_chain(chain)
    links = chain.entries[old:]
    problems = [*_broken_links(links, head.trimmed), *_wrong_end(links, head)]
    if anchor is not None:
        problems += _against_anchor(links, head, anchor)
    return Verdict(
        first=links[0].seq if links else 0,
        last=links[-1].seq if links else 0,
        before_chain=old,
        trimmed=head.trimmed.seq,
        anchored=None if anchor is None else anchor.last.seq,
        problems=tuple(problems),
    )


def _before_chain(chain: Chain) -> int:
    """How many entries an earlier version of Fleet has left before the chain. Once the chain itself
    is trimmed, there can be none."""
    if chain.head.trimmed.seq:
        return 0
    with_hash = (n for n, entry in enumerate(chain.entries) if entry.seq or entry.hash)
    return next(with_hash, len(chain.entries))


def _broken_links(entries: Iterable[AuditEntry], start: Point) -> list[Problem]:
    problems: list[Problem] = []
    last = start
    for entry in entries:
        seq = entry.seq
        if not seq or not entry.hash:
            problems.append(_inserted(entry, last))
            continue
        if seq <= last.seq:
            problems.append(_out_of_order(entry, last))
            continue
        if seq > last.seq + 1:
            where = "at the beginning" if last == start else f"after entry {last.seq}"
            problems.append(_missing(last.seq + 1, seq - 1, where))
        elif entry_hash(last.hash, entry) != entry.hash:
            problems.append(_changed(entry, last))
        last = entry.point
    return problems


def _inserted(entry: AuditEntry, last: Point) -> Problem:
    text = (
        f"{entry.id}, after entry {last.seq}, has no number or hash: somebody inserted or changed "
        "it, or an earlier version of Fleet, which knows no chain, still writes here"
    )
    return Problem("inserted", last.seq, text)


def _out_of_order(entry: AuditEntry, last: Point) -> Problem:
    text = f"entry {entry.seq} ({entry.id}) stands after entry {last.seq}: moved or inserted"
    return Problem("order", entry.seq, text)


def _missing(first: int, last: int, where: str) -> Problem:
    which = f"entry {first} is" if first == last else f"entries {first} to {last} are"
    return Problem("missing", first, f"{which} missing {where}")


def _changed(entry: AuditEntry, last: Point) -> Problem:
    before = f"or entry {last.seq} before it" if last.seq else "or its hash"
    text = f"entry {entry.seq} ({entry.id}) does not have its hash: it was changed, {before}"
    return Problem("changed", entry.seq, text)


def _wrong_end(entries: Sequence[AuditEntry], head: Head) -> list[Problem]:
    last = max((entry.point for entry in entries), default=head.trimmed)
    if last.seq < head.last.seq:
        return [_missing(last.seq + 1, head.last.seq, "at the end")]
    if last != head.last:
        text = f"the head names entry {head.last.seq}, and the last entry is {last.seq}"
        if last.seq == head.last.seq:
            text = f"the head has another hash than the last entry, {last.seq}"
        return [Problem("head", last.seq, f"{text}: an entry or the head was changed")]
    return []


def _against_anchor(entries: Sequence[AuditEntry], head: Head, anchor: Head) -> list[Problem]:
    problems: list[Problem] = []
    if head.last.seq < anchor.last.seq:
        where = "at the end: the anchor names them"
        problems.append(_missing(head.last.seq + 1, anchor.last.seq, where))
    if head.trimmed.seq > anchor.trimmed.seq:
        text = (
            f"entries up to {head.trimmed.seq} are gone at the beginning, and the anchor allows "
            f"trimming up to entry {anchor.trimmed.seq} alone"
        )
        problems.append(Problem("trimmed", head.trimmed.seq, text))
    hashes = {entry.seq: entry.hash for entry in entries}
    hashes[head.trimmed.seq] = head.trimmed.hash
    for point in {anchor.last, anchor.trimmed}:
        if hashes.get(point.seq, point.hash) != point.hash:
            text = f"entry {point.seq} has another hash than the anchor: the chain was rewritten"
            problems.append(Problem("anchor", point.seq, text))
    return problems


def verify_after(chain: Chain, anchor: Head) -> tuple[Problem, ...]:
    """What is wrong with the part of a chain that comes after an anchor."""
    if chain.head.last.seq < anchor.last.seq:
        return tuple(_against_anchor(chain.entries, chain.head, anchor))
    start = max(anchor.last, chain.head.trimmed)
    place = next((n for n, entry in enumerate(chain.entries) if entry.seq == start.seq), -1)
    after = chain.entries[place + 1 :]
    return (*_broken_links(after, start), *_wrong_end(after, Head(chain.head.last, start)))
