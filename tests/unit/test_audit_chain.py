"""The chain of the audit: every single change of it is found, and said where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.audit.rules import (
    START,
    AuditEntry,
    Chain,
    Head,
    Point,
    entry_hash,
    verify,
    verify_after,
)

TEXTS = st.text(max_size=12)
FACTS = st.dictionaries(st.sampled_from(["by", "why", "what", "after", "é"]), TEXTS, min_size=1)


def chain_of(all_facts: list[dict[str, str]]) -> Chain:
    """A chain whose entries have these facts."""
    entries: list[AuditEntry] = []
    last = START
    for seq, facts in enumerate(all_facts, 1):
        fields = {"seq": str(seq), "at": str(1000 + seq), "kind": "secret", **facts}
        last = Point(seq, entry_hash(last.hash, AuditEntry("", fields)))
        entries.append(AuditEntry(f"{1000 + seq}-0", {**fields, "hash": last.hash}))
    return Chain(entries, Head(last))


CHAINS = st.lists(FACTS, min_size=1, max_size=6).map(chain_of)


def with_fields(entry: AuditEntry, **fields: str) -> AuditEntry:
    return entry._replace(fields={**entry.fields, **fields})


def edited(chain: Chain, data: st.DataObject) -> list[AuditEntry]:
    """Another value of a field, a field more, a field less, or two fields in another order."""
    entries = list(chain.entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    fields = dict(entries[place].fields)
    name = data.draw(st.sampled_from([*fields, "new"]))
    value = data.draw(st.none() | TEXTS)
    if value is None:
        fields.pop(name, None)
    else:
        fields[name] = value
    if data.draw(st.booleans()):
        facts = [pair for pair in fields.items() if pair[0] not in ("seq", "at", "hash")]
        fields = {**{n: v for n, v in fields.items() if n in ("seq", "at", "hash")},
                  **dict(reversed(facts))}
    entries[place] = entries[place]._replace(fields=fields)
    return entries


def shortened(chain: Chain, data: st.DataObject) -> list[AuditEntry]:
    """Some entries less: at the beginning, at the end or between."""
    first = data.draw(st.integers(0, len(chain.entries) - 1))
    last = data.draw(st.integers(first + 1, len(chain.entries)))
    return [*chain.entries[:first], *chain.entries[last:]]


def moved(chain: Chain, data: st.DataObject) -> list[AuditEntry]:
    """The entries in another order."""
    return list(data.draw(st.permutations(chain.entries)))


def inserted(chain: Chain, data: st.DataObject) -> list[AuditEntry]:
    """A copy of an entry, or one without a number, or one with a hash of its own."""
    entries = list(chain.entries)
    entry = data.draw(st.sampled_from(entries))
    kind = data.draw(st.sampled_from(["copy", "bare", "hashed"]))
    if kind == "bare":
        entry = AuditEntry("9-0", entry.facts)
    elif kind == "hashed":
        entry = with_fields(entry, by="someone", hash="")
        entry = with_fields(entry, hash=entry_hash(START.hash, entry))
    # In front of the chain, an entry without number and hash is one of an earlier version.
    first = 1 if kind == "bare" else 0
    entries.insert(data.draw(st.integers(first, len(entries))), entry)
    return entries


@given(CHAINS)
def test_an_untouched_chain_is_intact(chain: Chain) -> None:
    verdict = verify(chain, chain.head)
    assert verdict.is_intact
    assert (verdict.first, verdict.last) == (1, len(chain.entries))
    for anchor in chain.entries:
        assert verify_after(chain, Head(anchor.point)) == ()


@pytest.mark.parametrize("mutate", [edited, shortened, moved, inserted])
@given(chain=CHAINS, data=st.data())
def test_every_mutation_of_the_entries_is_found(mutate, chain: Chain, data: st.DataObject) -> None:
    entries = mutate(chain, data)
    shown = [list(entry.facts.items()) for entry in entries]
    if [list(entry.facts.items()) for entry in chain.entries] == shown and all(
        old.fields == new.fields for old, new in zip(chain.entries, entries, strict=True)
    ):
        return
    assert not verify(Chain(entries, chain.head)).is_intact


@given(chain=CHAINS, data=st.data())
def test_a_part_that_is_hashed_anew_is_found_by_the_anchor(
    chain: Chain, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(chain.entries) - 1))
    facts = [entry.facts for entry in chain.entries]
    facts[place]["by"] = facts[place].get("by", "") + "!"
    forged = chain_of(facts)
    assert verify(forged).is_intact
    anchor = Head(chain.entries[data.draw(st.integers(place, len(facts) - 1))].point)
    found = verify(forged, anchor).problems
    assert [problem.kind for problem in found] == ["anchor"]
    assert found[0].seq == anchor.last.seq


@given(chain=CHAINS, data=st.data())
def test_a_chain_that_is_cut_together_with_its_head_is_found_by_the_anchor(
    chain: Chain, data: st.DataObject
) -> None:
    left = data.draw(st.integers(0, len(chain.entries) - 1))
    kept = chain.entries[:left]
    cut = Chain(kept, Head(kept[-1].point if kept else START))
    assert verify(cut).is_intact
    problems = verify(cut, chain.head).problems
    assert [(each.kind, each.seq) for each in problems] == [("missing", left + 1)]
    assert [each.kind for each in verify_after(cut, chain.head)] == ["missing"]


def five() -> Chain:
    return chain_of([{"what": "set", "path": f"p{number}"} for number in range(5)])


def trimmed(chain: Chain, most: int) -> Chain:
    """As it is after trimming: the first entries are gone, and the head says so."""
    point = chain.entries[-most - 1].point
    return Chain(chain.entries[-most:], Head(chain.head.last, point))


def test_trimming_that_the_anchor_allows_is_no_truncation() -> None:
    chain = trimmed(five(), 2)
    verdict = verify(chain, Head(chain.head.last, chain.head.trimmed))
    assert (verdict.is_intact, verdict.trimmed, verdict.first) == (True, 3, 4)
    allowed_more = Head(chain.head.last, chain.entries[0].point)
    assert verify(chain, allowed_more).is_intact


def test_trimming_that_the_anchor_does_not_allow_is_found() -> None:
    chain = five()
    problems = verify(trimmed(chain, 2), Head(chain.head.last, chain.entries[0].point)).problems
    assert [each.kind for each in problems] == ["trimmed"]
    assert "up to 3 are gone" in problems[0].text
    gone = Chain(chain.entries[3:], chain.head)
    assert [each.text for each in verify(gone).problems] == [
        "entries 1 to 3 are missing at the beginning"
    ]


@pytest.mark.parametrize(
    ("entries", "texts"),
    [
        pytest.param(
            lambda all_: [with_fields(each, path="x") if each.seq == 3 else each for each in all_],
            ["entry 3 (1003-0) does not have its hash: it was changed, or entry 2 before it"],
            id="edited",
        ),
        pytest.param(
            lambda all_: [each for each in all_ if each.seq != 3],
            ["entry 3 is missing after entry 2"],
            id="deleted",
        ),
        pytest.param(
            lambda all_: all_[:3], ["entries 4 to 5 are missing at the end"], id="truncated"
        ),
        pytest.param(
            lambda all_: [all_[0], all_[2], all_[1], *all_[3:]],
            [
                "entry 2 is missing after entry 1",
                "entry 2 (1002-0) stands after entry 3: moved or inserted",
            ],
            id="swapped",
        ),
    ],
)
def test_a_problem_says_where_it_is(entries, texts: list[str]) -> None:
    chain = five()
    found = verify(Chain(entries(list(chain.entries)), chain.head)).problems
    assert [problem.text for problem in found] == texts


def test_entries_of_an_earlier_version_come_before_the_chain() -> None:
    chain = five()
    old = [AuditEntry("1-0", {"version": "1", "field": "over||"}), AuditEntry("2-0", {"by": "x"})]
    verdict = verify(Chain([*old, *chain.entries], chain.head))
    assert (verdict.is_intact, verdict.before_chain, verdict.first) == (True, 2, 1)
    late = verify(Chain([*chain.entries, *old], chain.head))
    assert [each.kind for each in late.problems] == ["inserted", "inserted"]


def test_taking_the_hashes_off_the_first_entries_is_found() -> None:
    chain = five()
    bare = [AuditEntry(each.id, each.facts) for each in chain.entries[:2]]
    found = verify(Chain([*bare, *chain.entries[2:]], chain.head)).problems
    assert [each.text for each in found] == ["entries 1 to 2 are missing at the beginning"]


def test_what_is_broken_before_the_anchor_does_not_stop_it() -> None:
    chain = five()
    entries = [with_fields(chain.entries[0], path="x"), *chain.entries[1:]]
    broken = Chain(entries, chain.head)
    assert verify(broken).problems
    assert verify_after(broken, Head(chain.entries[2].point)) == ()
    assert verify_after(broken, Head(START))
