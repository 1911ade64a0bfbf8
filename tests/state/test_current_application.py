"""The application that `make_app` makes is the current one, as one of Celery's own is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
import redis
from celery import Celery, _state, shared_task, signature
from celery.result import AsyncResult

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.settings import Settings


@pytest.fixture
def no_application(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process in which nobody has made an application."""
    monkeypatch.setattr(_state._tls, "current_app", None)
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    yield


@pytest.fixture
def settings(
    client: redis.Redis, settings_of: Callable[[str], Settings], no_application: None
) -> Settings:
    return settings_of("")


def in_thread(ask: Callable[[], Any]) -> Any:
    told: list[Any] = []
    thread = threading.Thread(target=lambda: told.append(ask()))
    thread.start()
    thread.join(20)
    return told[0]


def current() -> Any:
    return celery.current_app._get_current_object()


def test_shared_tasks_signatures_and_results_use_it_in_every_thread(
    settings: Settings, client: redis.Redis
) -> None:
    @shared_task(name="shop.bill", ignore_result=True)
    def bill(order: int) -> None: ...

    app = make_app(settings)

    def uses() -> tuple[bool, ...]:
        bill.delay(1)
        signature("shop.bill", args=(2,)).apply_async(ignore_result=True)
        result: AsyncResult[Any] = AsyncResult("some-id")
        return current() is app, result.app is app, bill.app is app

    assert uses() == in_thread(uses) == (True, True, True)
    assert client.llen("{fleet}.jobs") == 4


def test_the_fleet_of_an_application_of_ones_own_leaves_it_the_current_one(
    settings: Settings,
) -> None:
    own = Celery("shop")
    Fleet.from_env()
    Fleet(settings)
    assert current() is own


def test_no_default_application_that_somebody_has_chosen_is_replaced(settings: Settings) -> None:
    own = Celery("shop")
    own.set_default()
    app = make_app(settings)
    # As where a second application of Celery's is made.
    assert current() is app
    assert in_thread(current) is own


def test_one_that_celery_made_up_is_replaced(settings: Settings) -> None:
    assert in_thread(current).main == "default"
    app = make_app(settings)
    assert in_thread(current) is app


def test_it_is_not_where_its_maker_says_so(settings: Settings) -> None:
    own = Celery("shop")
    make_app(settings, set_as_current=False)
    assert current() is own
