"""Chains, groups, chords and their like do over Fleet's transport what they do on stock Celery."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from celery import chain, chord, chunks, group
from celery.canvas import xmap, xstarmap
from celery.exceptions import ChordError
from celery.result import GroupResult
from shops import PATIENCE, PREFORK_QUEUE, THREADS_QUEUE, Shop, until

QUEUES = [None, THREADS_QUEUE, PREFORK_QUEUE]


def add(shop: Shop, x: int, y: int | None = None, queue: str | None = None):  # type: ignore[no-untyped-def]
    return shop.sign("add", *((x,) if y is None else (x, y)), **_to(queue))


def _to(queue: str | None) -> dict[str, dict[str, str]]:
    return {"options": {"queue": queue}} if queue else {}


@pytest.mark.parametrize("queue", QUEUES)
def test_a_chain_hands_each_result_on(shop: Shop, queue: str | None) -> None:
    sent = chain(add(shop, 1, 2, queue), add(shop, 3, queue=queue), add(shop, 4, queue=queue))()
    assert sent.get(timeout=PATIENCE) == 10
    assert sent.parent.get() == 6
    assert sent.parent.parent.get() == 3


@pytest.mark.parametrize("queue", QUEUES)
def test_a_group_gives_all_results_in_order(shop: Shop, queue: str | None) -> None:
    sent = group(add(shop, n, n, queue) for n in range(8))()
    assert sent.get(timeout=PATIENCE) == [2 * n for n in range(8)]
    assert sent.successful() and sent.completed_count() == 8


@pytest.mark.parametrize("queue", QUEUES)
def test_a_chord_calls_back_once_with_all_results(shop: Shop, queue: str | None) -> None:
    sent = chord([add(shop, n, n, queue) for n in range(8)], shop.sign("total", **_to(queue)))()
    assert sent.get(timeout=PATIENCE) == 56


def test_a_group_within_a_chain_becomes_a_chord(shop: Shop) -> None:
    sent = chain(add(shop, 1, 1), group(add(shop, n) for n in range(3)), shop.sign("total"))()
    assert sent.get(timeout=PATIENCE) == 9


def test_a_failed_header_fails_the_chord_and_calls_its_error_back(shop: Shop) -> None:
    page = shop.page()
    body = shop.sign("total").on_error(shop.sign("on_error", page))
    sent = chord([add(shop, 1, 1), shop.sign("fail", "sold out")], body)()
    until(lambda: sent.state, "FAILURE")
    assert isinstance(sent.result, ChordError)
    until(lambda: len(shop.lines(page)), 1)
    assert "sold out" in shop.lines(page)[0]


def test_maps_starmaps_and_chunks_run_as_one_task_each(shop: Shop) -> None:
    echo, plus = shop.app.tasks["shop.echo"], shop.app.tasks["shop.add"]
    pairs = list(pairwise(range(6)))
    mapped = xmap(echo.s(), [1, 2, 3], app=shop.app).apply_async()
    assert mapped.get(timeout=PATIENCE) == [1, 2, 3]
    sums = [x + y for x, y in pairs]
    starred = xstarmap(plus.s(), pairs, app=shop.app).apply_async()
    assert starred.get(timeout=PATIENCE) == sums
    cut = chunks(plus.s(), pairs, 2, app=shop.app).group()()
    assert cut.get(timeout=PATIENCE) == [sums[0:2], sums[2:4], sums[4:]]


def test_a_step_a_group_and_a_chords_callback_may_wait(shop: Shop) -> None:
    began = time.monotonic()
    late = add(shop, 1).set(countdown=0.3)
    waiting = [chain(add(shop, 1, 1), late)(), chord([add(shop, 1, 1)] * 2, total_later(shop))()]
    waiting.append(group(add(shop, n, n) for n in range(3)).apply_async(countdown=0.3))
    assert [each.get(timeout=PATIENCE) for each in waiting] == [3, 4, [0, 2, 4]]
    assert time.monotonic() - began >= 0.3


def total_later(shop: Shop):  # type: ignore[no-untyped-def]
    return shop.sign("total").set(countdown=0.3)


def test_callbacks_get_the_result_and_immutable_ones_do_not(shop: Shop) -> None:
    page = shop.page()
    told = shop.sign("note", page)
    fixed = shop.sign("note", "fixed", page, immutable=True)
    sent = shop.send("add", 2, 2, link=[told, fixed])
    assert sent.get(timeout=PATIENCE) == 4
    until(lambda: sorted(shop.lines(page)), ["4", "fixed"])


def test_an_error_callback_is_told_which_task_failed_and_why(shop: Shop) -> None:
    page = shop.page()
    sent = shop.send("fail", "no stock", link_error=shop.sign("on_error", page))
    with pytest.raises(ValueError, match="no stock"):
        sent.get(timeout=PATIENCE)
    until(lambda: shop.lines(page), [f"{sent.id}: no stock"])


def test_an_immutable_step_of_a_chain_ignores_what_came_before(shop: Shop) -> None:
    fixed = shop.sign("add", 5, 5, immutable=True)
    assert chain(add(shop, 1, 1), fixed)().get(timeout=PATIENCE) == 10


def test_a_task_may_be_replaced_by_a_group_or_a_chord(shop: Shop) -> None:
    assert shop.send("spread", [1, 2]).get(timeout=PATIENCE) == [2, 3]
    assert shop.send("summed_later", [1, 2]).get(timeout=PATIENCE) == 6


def test_a_result_knows_its_children(shop: Shop) -> None:
    sent = shop.send("parent")
    child = sent.get(timeout=PATIENCE)
    assert [each.id for each in sent.children] == [child]
    assert [result for _, result in sent.collect()][1] == 2


def test_a_groups_result_can_be_saved_and_found_again(shop: Shop) -> None:
    sent = group(add(shop, n, 1) for n in range(3))()
    sent.save()
    found = GroupResult.restore(sent.id, app=shop.app)
    assert found is not None
    assert found.get(timeout=PATIENCE) == [1, 2, 3]
    found.delete()
    assert GroupResult.restore(sent.id, app=shop.app) is None


def test_a_forgotten_result_is_gone(shop: Shop) -> None:
    sent = shop.send("add", 1, 1)
    assert sent.get(timeout=PATIENCE) == 2
    sent.forget()
    assert shop.app.AsyncResult(sent.id).state == "PENDING"


def test_a_steps_headers_and_family_reach_the_task(shop: Shop) -> None:
    asked = ["shop_visit", "root_id", "parent_id", "priority"]
    first = shop.sign("echo", asked)
    sent = chain(first, shop.sign("ask").set(headers={"shop_visit": "v1"}))()
    told = sent.get(timeout=PATIENCE)
    assert told["shop_visit"] == "v1"
    assert told["root_id"] == told["parent_id"] == sent.parent.id
