"""The table of states and moves, and that every script keeps to it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from fleet.tasks.rules import ENDED, HISTORY_KEPT, MOVES, NEW, STATES, parse_history

FOLDER = Path(str(files("fleet.redis"))) / "lua"
# The two scripts that submit have their moves in a part that they share.
PLACING = (FOLDER / "parts" / "placing.lua").read_text()
SCRIPTS = {
    path.stem: path.read_text().replace("-- include placing\n", PLACING)
    for path in sorted(FOLDER.glob("*.lua"))
}
MOVERS = [name for name, text in SCRIPTS.items() if re.search(r"\b(move|begun)\(", text)]
SAID = re.compile(r"^-- Moves\s+(.*)$", re.MULTILINE)
WRITE = re.compile(r"redis\.call\('HM?SET'(?:[^()]|\([^()]*\))*\)")
CALL = re.compile(r"\bmove\(\s*[^,]+,\s*[^,]+,\s*([^,]+),\s*([^,]+),")


def said(name: str) -> set[tuple[str, str]]:
    """The moves that a script's head states: `-- Moves   running -> queued, failed; ...`."""
    found = set()
    for part in "; ".join(SAID.findall(SCRIPTS[name])).split("; "):
        sources, _, targets = part.partition(" -> ")
        for source in sources.split(", "):
            found |= {(source, target) for target in targets.split(", ")}
    return found


def test_the_table_knows_every_state_and_the_ended_ones_end() -> None:
    assert set(MOVES) == {NEW, *STATES}
    assert {state for state, to in MOVES.items() if not to} == ENDED
    assert set().union(*MOVES.values()) <= set(STATES)


@pytest.mark.parametrize("name", MOVERS)
def test_a_script_makes_only_moves_of_the_table(name: str) -> None:
    assert said(name) and all(to in MOVES[source] for source, to in said(name))


def test_every_move_of_the_table_is_made_by_a_script() -> None:
    made = set().union(*map(said, MOVERS))
    assert made == {(source, to) for source, targets in MOVES.items() for to in targets}


@pytest.mark.parametrize("name", MOVERS)
def test_a_scripts_head_states_the_moves_that_its_text_makes(name: str) -> None:
    sources, targets = (set(each) for each in zip(*said(name), strict=True))
    for source, target in CALL.findall(SCRIPTS[name]):
        # A variable holds what the script has just compared, or what `Tasks.finish` has checked.
        assert source == "state" or source.strip("'") in sources, source
        assert target == "state" or target.strip("'") in targets, target


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_sets_a_state_without_a_move(name: str) -> None:
    written = [call for call in WRITE.findall(SCRIPTS[name]) if "'state'" in call]
    assert all("begun(" in call for call in written), written
    assert ("-- Moves" in SCRIPTS[name]) == (name in MOVERS)


def test_whoever_lets_a_task_fail_makes_it_a_dead_letter() -> None:
    failing = {name for name in MOVERS if any(to == "failed" for _, to in said(name))}
    burying = {name for name, text in SCRIPTS.items() if "-- include dead_letters\n" in text}
    assert failing == burying
    assert all("bury(" in SCRIPTS[name] for name in failing)


def test_lua_keeps_as_many_moves_as_python_says() -> None:
    text = (FOLDER / "parts" / "moves.lua").read_text()
    assert re.findall(r"history_kept = (\d+)", text) == [str(HISTORY_KEPT)]


def test_a_history_is_read() -> None:
    packed = "1000 queued 0 submit \n2500 failed 1 a-1 crash 3: its lease ended"
    first, second = parse_history(packed)
    assert first == (1.0, "queued", 0, "submit", "")
    assert second == (2.5, "failed", 1, "a-1", "crash 3: its lease ended")
    assert parse_history("") == ()
