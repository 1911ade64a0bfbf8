"""The rules of rotation: stages, what is due, and what may be revoked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidRequest
from fleet.secrets.rules.rotation import (
    JITTER,
    KEPT_REVOKED,
    MAX_RETRY_SECONDS,
    RETRY_SECONDS,
    Holder,
    ProcessReport,
    Rotation,
    Rule,
    VersionState,
    advanced,
    begun,
    due_at,
    failed,
    holders,
    known,
    may_revoke,
    next_step,
    revoked,
    to_begin,
    to_resume,
    written_by_hand,
)

PATH = "providers/acme"
RULE = Rule("providers", every=1000, grace=100)
ACTS = ("begin", "advance", "fail", "abandon", "revoke", "by hand")


def after(acts: list[str]) -> Rotation:
    """A rotation after acts; those that its stage does not allow are left out."""
    rotation = known(PATH, 1, 0.0)
    for now, act in enumerate(acts, start=1):
        newest = rotation.versions[-1].version
        if act == "advance" and rotation.unfinished:
            rotation = advanced(rotation, now)
        elif act == "fail" and rotation.unfinished:
            rotation = failed(rotation, now, "busy")
        elif act == "abandon" and rotation.unfinished:
            rotation = revoked(rotation, rotation.unfinished.version, now)
        elif act == "revoke" and rotation.previous:
            rotation = revoked(rotation, rotation.previous[0].version, now)
        elif act == "begin" and not rotation.unfinished:
            rotation = begun(rotation, newest, now, "id")
        elif act == "by hand" and not rotation.unfinished:
            rotation = written_by_hand(rotation, newest + 1, now)
    return rotation


@given(st.lists(st.sampled_from(ACTS), max_size=40))
def test_there_is_one_current_version_and_at_most_one_unfinished(acts: list[str]) -> None:
    rotation = after(acts)
    stages = [each.stage for each in rotation.versions]
    assert stages.count("current") == 1
    assert sum(stage in ("pending", "set", "tested") for stage in stages) <= 1
    assert stages.count("revoked") <= KEPT_REVOKED
    assert bool(rotation.id) == (rotation.unfinished is not None)
    numbers = [each.version for each in rotation.versions]
    assert numbers == sorted(set(numbers))


@given(st.lists(st.sampled_from(ACTS), max_size=40), st.floats(0, 1e6))
def test_a_failure_or_an_abandoned_rotation_leaves_current_as_it_was(
    acts: list[str], now: float
) -> None:
    rotation = after([*acts, "begin"])
    assert rotation.unfinished is not None
    for later in (failed(rotation, now, "busy"), revoked(rotation, rotation.unfinished.version, 1)):
        assert later.current == rotation.current
        assert later.previous == rotation.previous


def test_a_rotation_goes_through_its_steps() -> None:
    rotation, steps = begun(known(PATH, 4, 0.0), 6, 1.0, "id"), []
    is_written = False
    while step := next_step(rotation, is_written):
        steps.append(step)
        rotation = rotation if step == "create" else advanced(rotation, 2.0, 0.5)
        is_written = True
    assert steps == ["create", "set", "test", "finish"]
    assert rotation.versions == (VersionState(4, "previous", 2.0), VersionState(7, "current", 2.0))
    assert rotation.share == 0.5


def test_an_unfinished_rotation_blocks_the_next_one_and_a_hand() -> None:
    rotation = begun(known(PATH, 1, 0.0), 1, 1.0, "id")
    with pytest.raises(InvalidRequest, match="rotate providers/acme --resume"):
        begun(rotation, 2, 2.0, "other")
    with pytest.raises(InvalidRequest, match="revoke providers/acme 2"):
        written_by_hand(rotation, 3, 2.0)


def test_the_current_version_is_not_revoked() -> None:
    with pytest.raises(InvalidRequest, match="version 1 is current"):
        revoked(known(PATH, 1, 0.0), 1, 1.0)


def test_retries_wait_longer_up_to_an_hour() -> None:
    rotation, waits = begun(known(PATH, 1, 0.0), 1, 0.0, "id"), []
    for _ in range(30):
        rotation = failed(rotation, 0.0, "busy")
        waits.append(rotation.retry_at)
    assert waits[:3] == [RETRY_SECONDS, 2 * RETRY_SECONDS, 4 * RETRY_SECONDS]
    assert waits[-1] == MAX_RETRY_SECONDS
    assert to_resume([rotation], MAX_RETRY_SECONDS - 1) == []
    assert to_resume([rotation], MAX_RETRY_SECONDS) == [PATH]
    assert advanced(rotation, 1.0).failures == 0


REPORT = ProcessReport("p1", "agent", 1.0, generation=7, loaded={PATH: 2}, in_use={})


@pytest.mark.parametrize(
    ("report", "holder"),
    [
        (REPORT, None),
        (replace(REPORT, loaded={}), None),
        (replace(REPORT, generation=6), Holder("p1", False, False, 0)),
        (replace(REPORT, loaded={PATH: 1}), Holder("p1", True, True, 0)),
        (replace(REPORT, in_use={(PATH, 1): 3}), Holder("p1", True, False, 3)),
        (replace(REPORT, in_use={(PATH, 2): 3, ("other", 1): 1}), None),
        (replace(REPORT, generation=6, age=31.0), None),
    ],
    ids=[
        "acknowledged", "has not read it", "not acknowledged", "serves it", "uses it",
        "uses others", "dead",
    ],
)
def test_a_process_holds_a_version_that_it_may_still_use(
    report: ProcessReport, holder: Holder | None
) -> None:
    found = holders(PATH, 1, 7, [report], silence_seconds=30.0)
    assert found == ((holder,) if holder else ())


HELD = (Holder("p1", True, False, 1),)
PREVIOUS = VersionState(1, "previous", 0.0)


@pytest.mark.parametrize(
    ("rule", "held_by", "now", "may"),
    [
        (RULE, (), 1.0, True),
        (RULE, HELD, 99.0, False),
        (RULE, HELD, 100.0, True),
        (replace(RULE, waits_for_grace=True), (), 99.0, False),
        (replace(RULE, waits_for_grace=True), (), 100.0, True),
    ],
    ids=["nobody", "held", "over", "waits", "waited"],
)
def test_a_version_is_revoked_when_nobody_holds_it_or_its_grace_is_over(
    rule: Rule, held_by: tuple[Holder, ...], now: float, may: bool
) -> None:
    assert may_revoke(PREVIOUS, rule, held_by, now) is may


@given(st.floats(0, 1), st.floats(1, 1e8), st.floats(0, 1e10))
def test_a_secret_is_due_at_most_a_tenth_early(share: float, every: float, since: float) -> None:
    due = due_at(known(PATH, 1, since, share), replace(RULE, every=every))
    assert due is not None
    assert since + every * (1 - JITTER) * (1 - 1e-9) <= due <= since + every


def test_a_secret_without_an_interval_is_never_due() -> None:
    assert due_at(known(PATH, 1, 0.0), replace(RULE, every=None)) is None


paths = st.dictionaries(
    st.sampled_from([f"s{n}/p{m}" for n in range(3) for m in range(3)]),
    st.tuples(st.floats(0, 3000), st.booleans(), st.booleans()),
)


@given(paths, st.floats(0, 5000))
def test_of_each_set_the_most_overdue_begins_unless_one_is_unfinished(
    given_paths: dict[str, tuple[float, bool, bool]], now: float
) -> None:
    rotations, rules, due = [], {}, {}
    busy = set()
    for path, (since, is_unfinished, by_person) in given_paths.items():
        rule = Rule(path[:2], 1000, 100, by_person=by_person)
        rotation = known(path, 1, since)
        if is_unfinished:
            rotation = begun(rotation, 1, since, "id")
            busy.add(rule.set)
        elif not by_person and since + 1000 <= now:
            due[path] = since
        rotations.append(rotation)
        rules[path] = rule
    chosen = to_begin(rotations, rules, now)
    for name in ("s0", "s1", "s2"):
        ready = [(since, path) for path, since in due.items() if path[:2] == name]
        of_set = [path for path in chosen if path[:2] == name]
        assert of_set == ([min(ready)[1]] if ready and name not in busy else [])


def test_a_path_that_is_not_configured_any_more_is_left_alone() -> None:
    assert to_begin([known(PATH, 1, 0.0)], {}, 1e9) == []
