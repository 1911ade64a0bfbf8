"""What the balancing benchmark computes: the load that it makes, and the figures of its waits."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from balancing_parts.load import LOAD, POOLS, arrivals  # noqa: E402
from balancing_parts.rounds import Diary  # noqa: E402
from balancing_parts.sides import by_capacity, in_turn  # noqa: E402
from balancing_parts.waits import Run, beside_free_slot  # noqa: E402


def test_the_load_is_what_it_says_and_the_same_each_time() -> None:
    tasks = arrivals(POOLS, 500, mean=0.2, seed=3)
    capacity = sum(pool.slots * pool.speed for pool in POOLS)
    assert sum(task.work for task in tasks) / tasks[-1].at == pytest.approx(LOAD * capacity)
    assert tasks == arrivals(POOLS, 500, mean=0.2, seed=3)
    assert tasks != arrivals(POOLS, 500, mean=0.2, seed=4)


def test_round_robin_gives_each_pool_the_same_share() -> None:
    sent = Counter(islice(in_turn(POOLS), 8 * 50))
    assert set(sent.values()) == {50}


def test_the_weighted_rival_gives_each_pool_its_share_of_the_capacity() -> None:
    sent = Counter(islice(by_capacity(POOLS), 3800))
    capacity = sum(pool.capacity for pool in POOLS)
    for pool in POOLS:
        assert sent[pool.name] == pytest.approx(3800 * pool.capacity / capacity, abs=1)


def test_a_wait_counts_as_lost_only_while_a_slot_is_free() -> None:
    first = Run(sent=0, started=0, ended=4, pool="a")
    beside_busy_slots = Run(sent=1, started=4, ended=5, pool="a")
    assert beside_free_slot([first, beside_busy_slots], slots=1) == 0
    assert beside_free_slot([first, beside_busy_slots], slots=2) == 1.5


def test_a_half_written_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    diary = Diary(path)
    path.write_text("1 a 0.5 0.7\n2 a 0.")
    assert diary.new_lines() == [["1", "a", "0.5", "0.7"]]
    path.write_text("1 a 0.5 0.7\n2 a 0.6 0.8\n")
    assert diary.new_lines() == [["2", "a", "0.6", "0.8"]]
    assert diary.new_lines() == []
