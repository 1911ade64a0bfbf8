"""The tasks of a user of Celery, who knows nothing of Fleet. Both applications have the same."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from celery import Celery, Task, chord, group
from celery.backends.filesystem import FilesystemBackend
from celery.backends.rpc import RPCBackend
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.signals import task_postrun, task_prerun
from kombu import serialization

PREFORK_QUEUE, THREADS_QUEUE = "shop.forked", "shop.threads"


def diary() -> redis.Redis:
    """What the tasks have done, in lists of a database of its own."""
    return redis.Redis.from_url(os.environ["SHOP_DIARY"], decode_responses=True)


def add_tasks(app: Celery) -> None:
    """Register the user's tasks, and a serializer of his own.

    They are not shared, for a test has the applications of both sides in one process.
    """
    serialization.register("backwards", _backwards, _forwards, "application/x-backwards", "utf-8")
    app.conf.accept_content = ["json", "backwards"]
    app.conf.worker_soft_shutdown_timeout = float(os.environ.get("SHOP_SOFT_SECONDS", "0"))
    app.conf.worker_enable_soft_shutdown_on_idle = "SHOP_SOFT_ON_IDLE" in os.environ
    if "SHOP_KILLED_BEFORE" in os.environ:
        _die_once_before(app, os.environ["SHOP_KILLED_BEFORE"])
    _add_sums(app)
    _add_callbacks(app)
    _add_failures(app)
    _add_long_ones(app)
    _add_kept_elsewhere(app)
    _add_ends(app)
    if page := os.environ.get("SHOP_BEAT_PAGE"):
        app.conf.beat_schedule["tell-the-time"] = {
            "task": "shop.note",
            "schedule": 0.5,
            "args": ("tick", page),
        }


def _die_once_before(app: Celery, method: str) -> None:
    """Have the first process that calls this method of the result store killed in that moment."""
    store = type(app.backend)
    stock = getattr(store, method)

    def die_or_do_it(*args: Any, **kwargs: Any) -> Any:
        if diary().rpush("killed", os.getpid()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return stock(*args, **kwargs)

    setattr(store, method, die_or_do_it)


def _backwards(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()[::-1]


def _forwards(text: Any) -> Any:
    return json.loads(base64.b64decode(text[::-1]))


def _add_sums(app: Celery) -> None:
    @app.task(shared=False, name="shop.add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @app.task(shared=False, name="shop.total")
    def total(numbers: Any) -> Any:
        return sum(numbers)

    @app.task(shared=False, name="shop.echo")
    def echo(value: Any) -> Any:
        return value

    @app.task(shared=False, name="shop.kinds")
    def kinds(values: Any) -> list[str]:
        return [type(value).__name__ for value in values]

    @app.task(shared=False, name="shop.note")
    def note(line: Any, page: str) -> None:
        diary().rpush(page, str(line))

    @app.task(shared=False, name="shop.note_early", acks_late=False)
    def note_early(line: Any, page: str) -> None:
        diary().rpush(page, str(line))

    @app.task(shared=False, name="shop.ask", bind=True)
    def ask(self: Any, names: list[str]) -> dict[str, Any]:
        return {name: self.request.get(name) for name in names}

    @app.task(shared=False, name="shop.forget_it", ignore_result=True)
    def forget_it(x: int) -> int:
        return x


def _add_callbacks(app: Celery) -> None:
    @app.task(shared=False, name="shop.spread", bind=True)
    def spread(self: Any, numbers: list[int]) -> Any:
        add = app.tasks["shop.add"]
        raise self.replace(group(add.s(number, 1) for number in numbers))

    @app.task(shared=False, name="shop.parent", bind=True)
    def parent(self: Any) -> str:
        return str(app.tasks["shop.add"].delay(1, 1).id)

    @app.task(shared=False, name="shop.summed_later", bind=True)
    def summed_later(self: Any, numbers: list[int]) -> Any:
        add = app.tasks["shop.add"]
        raise self.replace(chord([add.s(n, n) for n in numbers], app.tasks["shop.total"].s()))

    @app.task(shared=False, name="shop.replaced_by", bind=True)
    def replaced_by(self: Any, signature: Any) -> Any:
        raise self.replace(app.signature(signature))

    @app.task(shared=False, name="shop.on_error")
    def on_error(request: Any, error: Any, traceback: Any, page: str) -> None:
        diary().rpush(page, f"{request.id}: {error}")

    @app.task(shared=False, name="shop.ask_an_agent", bind=True)
    def ask_an_agent(self: Any, note: str) -> Any:
        raise self.replace(app.signature("agents.napper", args=({"note": note},), immutable=True))


def _add_failures(app: Celery) -> None:
    @app.task(shared=False, name="shop.fail", throws=(ValueError,))
    def fail(why: str) -> None:
        raise ValueError(why)

    @app.task(shared=False, name="shop.stumble", bind=True, max_retries=3, throws=(ValueError,))
    def stumble(self: Any, times: int, countdown: float = 0.0) -> int:
        if self.request.retries < times:
            raise self.retry(exc=ValueError("stumbled"), countdown=countdown)
        return int(self.request.retries)

    @app.task(
        shared=False,
        name="shop.stumble_by_itself",
        bind=True,
        autoretry_for=(ValueError,),
        retry_backoff=1,
        retry_jitter=False,
        max_retries=3,
        throws=(ValueError,),
    )
    def stumble_by_itself(self: Any, times: int) -> int:
        if self.request.retries < times:
            raise ValueError("stumbled")
        return int(self.request.retries)


@contextmanager
def counted(page: str) -> Iterator[None]:
    """Note on a page of the diary how many run at once in this process."""
    with diary() as book:
        now = f"{page}:{os.getpid()}"
        book.rpush(page, book.incr(now))
        try:
            yield
        finally:
            book.decr(now)


def _add_long_ones(app: Celery) -> None:
    @app.task(shared=False, name="shop.count_me")
    def count_me(page: str, seconds: float) -> None:
        with counted(page):
            time.sleep(seconds)

    app.task(shared=False, name="shop.count_me_early", acks_late=False)(count_me.run)

    @app.task(shared=False, name="shop.wait_for")
    def wait_for(page: str, seconds: float = 30.0) -> str:
        """Say that it runs, and run until the test has let it go."""
        diary().rpush(f"{page}:begun", os.getpid())
        until = time.monotonic() + seconds
        while not diary().exists(f"{page}:go"):
            if time.monotonic() > until:
                raise TimeoutError(page)
            time.sleep(0.02)
        return page

    app.task(shared=False, name="shop.wait_for_early", acks_late=False)(wait_for.run)
    app.task(shared=False, name="shop.wait_for_late", acks_late=True)(wait_for.run)

    @app.task(shared=False, name="shop.overrun")
    def overrun(seconds: float) -> str:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(seconds)
            return "in time"
        return "stopped softly"


class Watched(Task):  # type: ignore[misc]
    """A base class that notes what Celery calls, on the page that is the first argument."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        diary().rpush(args[0], "before_start")

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        diary().rpush(args[0], "on_success")

    def after_return(self, *args: Any) -> None:
        diary().rpush(args[3][0], "after_return")


def _note_signal(signal: Any, sender: Any, args: Any, **_: Any) -> None:
    if isinstance(sender, Watched):
        diary().rpush(args[0], signal.name)


def _add_ends(app: Celery) -> None:
    task_prerun.connect(_note_signal)
    task_postrun.connect(_note_signal)

    @app.task(shared=False, name="shop.watched", base=Watched, bind=True)
    def watched(self: Any, page: str) -> None:
        self.update_state(state="HALFWAY", meta={"page": page})
        diary().rpush(page, self.AsyncResult(self.request.id).state)

    @app.task(shared=False, name="shop.rejected_once", bind=True)
    def rejected_once(self: Any, page: str) -> bool:
        if diary().rpush(page, "ran") == 1:
            raise Reject("not now", requeue=True)
        return bool(self.request.delivery_info["redelivered"])

    @app.task(shared=False, name="shop.ignored")
    def ignored(page: str) -> None:
        diary().rpush(page, "ran")
        raise Ignore

    @app.task(shared=False, name="shop.die_once", reject_on_worker_lost=True)
    def die_once(page: str) -> str:
        if diary().rpush(page, "ran") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "ran again"

    app.task(shared=False, name="shop.die", acks_late=True)(die_once.run)
    app.task(shared=False, name="shop.die_early", acks_late=False)(die_once.run)

    @app.task(shared=False, name="shop.tell_where", bind=True)
    def tell_where(self: Any, page: str) -> None:
        diary().rpush(page, self.request.hostname)

    @app.task(shared=False, name="shop.process")
    def process() -> int:
        return os.getpid()


def _add_kept_elsewhere(app: Celery) -> None:
    files = FilesystemBackend(app=app, url=os.environ["SHOP_RESULTS"])
    app.task(shared=False, name="shop.kept_in_files", backend=files)(_double)
    app.task(shared=False, name="shop.kept_by_caller", backend=RPCBackend(app=app))(_double)
    with suppress(ImportError):
        from celery.backends.database import DatabaseBackend

        table = DatabaseBackend(app=app, url=os.environ["SHOP_TABLE"])
        app.task(shared=False, name="shop.kept_in_a_table", backend=table)(_double)


def _double(x: int) -> int:
    return 2 * x
