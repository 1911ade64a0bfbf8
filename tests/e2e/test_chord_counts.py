"""A process is killed between the result of a header task and its chord's count: the chord goes on.

Stock Celery leaves such a chord to hang. Killed are a worker of threads, and a child of prefork.
"""

from __future__ import annotations

import pytest
from celery import chain, chord
from harness import eventually
from yards import PATIENCE, Yard

from fleet.tasks.reaper import reap

NAP = "agents.napper"
BEFORE_THE_COUNT = "on_chord_part_return"
BEFORE_THE_CALLBACK = "_chord_publish_claim_expires"

slow = pytest.mark.slow
kills = pytest.mark.parametrize(
    ("pool", "kind", "killed_before"),
    [
        ("threads", "agents", BEFORE_THE_COUNT),
        pytest.param("prefork", "plain", BEFORE_THE_COUNT, marks=slow),
        pytest.param("prefork", "early", BEFORE_THE_COUNT, marks=slow),
        pytest.param("threads", "plain", BEFORE_THE_CALLBACK, marks=slow),
        pytest.param("threads", "plain", BEFORE_THE_COUNT, marks=slow),
        pytest.param("threads", "agents", BEFORE_THE_CALLBACK, marks=slow),
        pytest.param("prefork", "agents", BEFORE_THE_COUNT, marks=slow),
        pytest.param("prefork", "agents", BEFORE_THE_CALLBACK, marks=slow),
        pytest.param("prefork", "plain", BEFORE_THE_CALLBACK, marks=slow),
    ],
)


@kills
def test_a_chord_whose_count_was_cut_calls_back_once(
    yard: Yard, pool: str, kind: str, killed_before: str
) -> None:
    worker = yard.start("first", pool, SHOP_KILLED_BEFORE=killed_before)
    if kind == "agents":
        header = [yard.app.signature(NAP, args=({"note": str(n)},)) for n in range(2)]
    else:
        task = yard.app.tasks["shop.note_early" if kind == "early" else "shop.note"]
        header = [task.s(n, "header") for n in range(2)]
    sent = chord(header, yard.app.tasks["shop.note"].s("page"))()
    if pool == "threads":
        assert worker.wait(timeout=PATIENCE) == -9
        yard.start("second", pool)

    def ended() -> bool:
        # In the place of beat: where the other header task still ran, its lease has to end.
        reap(yard.state)
        return bool(sent.ready())

    eventually(ended, PATIENCE, "the callback")
    sent.get(timeout=PATIENCE)
    assert yard.diary.llen("killed") >= 1
    assert yard.diary.llen("page") == 1
    if kind != "agents" and killed_before == BEFORE_THE_COUNT:
        # What had its result is not run again for the count.
        assert yard.diary.llen("header") == 2


@slow
def test_a_chain_whose_failure_was_cut_fails_to_its_end(yard: Yard) -> None:
    """An agent's task that fails within a chord, which is a step of a chain."""
    worker = yard.start("first", "threads", SHOP_KILLED_BEFORE="_fail_chain")
    refused = yard.app.signature(NAP, args=({"end": "refused"},))
    sent = chain(refused, yard.app.tasks["shop.echo"].s())()
    assert worker.wait(timeout=PATIENCE) == -9
    yard.start("second", "threads")
    with pytest.raises(Exception, match="sleep at home"):
        sent.get(timeout=PATIENCE)
    eventually(lambda: sent.parent.failed(), PATIENCE)
