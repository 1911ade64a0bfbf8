"""Groups and chords of agents: all of their tasks are submitted, or none and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord, chunks, group
from celery.canvas import xmap, xstarmap
from kombu.exceptions import EncodeError, OperationalError, SerializerNotInstalled

from fleet.broker.app import make_app
from fleet.errors import (
    InEmergency,
    InvalidRequest,
    NoAgentAvailable,
    OverBudget,
    OverLimit,
    PartlySubmitted,
    TooBusy,
)
from fleet.settings import Settings
from fleet.tasks.connection import Connection
from fleet.tasks.submission import submit
from fleet.tasks.submission.store import Submissions

ROOM = 5
CONFIG = f"""
[agent_types.code_generator]
[agent_types.security_scanner]

[pools.codegen]
agent_type = "code_generator"
slots = 3

[pools.scanner]
agent_type = "security_scanner"
slots = 3

[request_types.code_generation]
agent_type = "code_generator"

[request_types.security_analysis]
agent_type = "security_scanner"

[rates.scopes."tenant:bounded"]
concurrent_tasks = {ROOM}

[limits]
waiting_per_tenant = 10
"""


@pytest.fixture
def make(
    client: redis.Redis, settings_of: Callable[[str], Settings]
) -> Iterator[Callable[[str], Celery]]:
    """Makes applications; none of their results is waited for when the server is gone."""
    made: list[Celery] = []

    def make(toml: str) -> Celery:
        made.append(make_app(settings_of(toml)))
        return made[-1]

    yield make
    for app in made:
        with suppress(AttributeError):
            app.backend.result_consumer.cancel_for = lambda task_id: None


@pytest.fixture
def app(make: Callable[[str], Celery]) -> Celery:
    app = make(CONFIG)
    state: Connection = app.fleet
    for pool in ("codegen", "scanner"):
        state.routing.agents.register(f"{pool}-1", pool, 3, {})
    # What a process reads before its first submission, and notes in Redis, is none of the tests'.
    app.submitter.planner.refresh()
    return app


def code(app: Celery, tenant: str = "bounded", **options: Any) -> Any:
    kwargs = {"tenant": tenant, "complexity": 0.5}
    return app.signature(
        "agents.code_generator", args=({"instruction": "add"},), kwargs=kwargs, options=options,
        immutable=True,
    )


def scan(app: Celery, tenant: str = "bounded") -> Any:
    kwargs = {"tenant": tenant, "complexity": 0.5}
    payload = {"source": "pass"}
    return app.signature("agents.security_scanner", args=(payload,), kwargs=kwargs, immutable=True)


def plain(app: Celery) -> Any:
    return app.signature("shop.echo", args=(1,), immutable=True)


def written(client: redis.Redis) -> dict[bytes, Any]:
    """All that is in Redis but what the agents, and Celery of sizes of chords, say."""
    found = {}
    for key in client.scan_iter():
        if b":agent" in key or b"celery-taskset" in key or b"_kombu.binding" in key:
            continue
        found[key] = client.dump(key)
    return found


CANVASES: dict[str, Callable[[Celery], Any]] = {
    "a group": lambda app: group(code(app) for _ in range(8)),
    "a group of two agent types": lambda app: group([code(app), scan(app)] * 4),
    "a group of tenants with room and without": lambda app: group(
        [code(app, "acme"), *(code(app) for _ in range(6))]
    ),
    "a group with plain tasks before and after": lambda app: group(
        [plain(app), *(code(app) for _ in range(6)), plain(app)]
    ),
    "a chord": lambda app: chord([code(app) for _ in range(8)], plain(app)),
    "a chord with a plain task in its header": lambda app: chord(
        [plain(app), *(code(app) for _ in range(8))], plain(app)
    ),
    "a group of groups": lambda app: group(group(code(app) for _ in range(3)) for _ in range(2)),
    "a group of chains": lambda app: group(chain(code(app), plain(app)) for _ in range(6)),
    "a group of chords": lambda app: group(
        chord([code(app) for _ in range(3)], plain(app)) for _ in range(2)
    ),
    "a chain that begins with a group": lambda app: chain(
        group(code(app) for _ in range(8)), plain(app)
    ),
    "a chain of chords": lambda app: chain(
        chord([code(app) for _ in range(8)], plain(app)),
        chord([code(app) for _ in range(2)], plain(app)),
    ),
    "some that wait for their time": lambda app: group(
        [code(app, countdown=60), *(code(app) for _ in range(6))]
    ),
}


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_what_does_not_fit_a_limit_as_a_whole_is_not_sent_at_all(
    app: Celery, client: redis.Redis, canvas: Callable[[Celery], Any]
) -> None:
    before = written(client)
    with pytest.raises(OverLimit) as told:
        canvas(app).apply_async()
    assert any("was submitted" in note for note in told.value.__notes__)
    assert written(client) == before


def test_what_fits_is_sent_in_one_step_of_redis_and_the_rest_after_it(
    app: Celery, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: Connection = app.fleet
    whole: list[int] = []
    stock = Submissions.place_many

    def place_many(self: Submissions, entries: Any, *args: Any, **options: Any) -> Any:
        assert options == {"whole": True}
        assert client.llen("{fleet}.jobs") == 0
        whole.append(len(entries))
        return stock(self, entries, *args, **options)

    monkeypatch.setattr(Submissions, "place_many", place_many)
    sent = group([plain(app), code(app), scan(app), code(app, "acme"), plain(app)])()
    assert whole == [3]
    assert [state.tasks.records.state(each.id) for each in sent.results[1:4]] == ["queued"] * 3
    assert client.llen("{fleet}.jobs") == 2
    assert client.hlen(state.keys.reservations) == 3
    for pool, count in (("codegen", 2), ("scanner", 1)):
        assert client.scard(state.keys.pool(pool).in_flight) == count
        assert client.llen(f"{{fleet}}.{pool}:wake") == 1


def test_a_whole_that_overflows_its_pools_waits_behind_them(
    app: Celery, client: redis.Redis
) -> None:
    sent = group(code(app, "acme") for _ in range(5))()
    assert len(sent.results) == 5
    assert client.llen("{fleet}.codegen") == 3
    assert client.llen("{fleet}.overflow.code_generator") == 2


def test_a_chord_that_a_task_looks_after_is_not_sent_without_that_task_either(
    app: Celery, client: redis.Redis, tmp_path: Path
) -> None:
    """Where results are in files nobody counts: a task of Celery's looks whether all have ended."""
    (tmp_path / "results").mkdir()
    app.conf.result_backend = f"file://{tmp_path}/results"
    app._local.backend = app._get_backend()
    before = written(client)
    with pytest.raises(OverLimit):
        chord([code(app) for _ in range(8)], plain(app))()
    assert written(client) == before
    chord([code(app) for _ in range(2)], plain(app))()
    (message,) = client.zrange(app.fleet.keys.deferred, 0, -1)
    assert b"celery.chord_unlock" in message
    assert client.zcard(app.fleet.keys.tasks) == 2


def test_every_reason_to_refuse_one_refuses_the_whole(app: Celery, client: redis.Redis) -> None:
    state: Connection = app.fleet
    before = written(client)
    with pytest.raises(TooBusy):
        group(code(app, "acme") for _ in range(11))()
    with pytest.raises(InvalidRequest):
        group([code(app), app.signature("agents.code_generator", args=({"no": 1},))])()
    with pytest.raises(EncodeError):
        group([code(app), app.signature("shop.echo", args=(object(),))])()
    with pytest.raises(SerializerNotInstalled):
        group([code(app), plain(app).set(serializer="none-such")])()
    assert written(client) == before
    for agent in ("scanner-1",):
        state.routing.agents.leave(agent, "scanner")
    before = written(client)
    with pytest.raises(NoAgentAvailable):
        group([code(app), scan(app)])()
    assert written(client) == before


def test_a_whole_that_would_hold_up_redis_is_refused(
    app: Celery, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MAX_WHOLE", 3)
    before = written(client)
    with pytest.raises(InvalidRequest, match=r"a group may have up to 3\."):
        group(code(app, "acme") for _ in range(4))()
    assert written(client) == before
    assert len(group(code(app, "acme") for _ in range(3))().results) == 3


def test_no_money_is_held_for_a_whole_that_costs_too_much(
    client: redis.Redis,
    make: Callable[[str], Celery],
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("OWN_API_KEY", "sk-own")
    model = '[providers.own]\nbase_url = "http://127.0.0.1:9/v1"\nkey_variable = "OWN_API_KEY"\n'
    model += '[catalogue.dear]\nprovider = "own"\nquality = 0.9\nspeed = 0.9\n'
    model += "input_price = 1000\noutput_price = 1000\n"
    model += "[budgets]\ndaily_usd = 10000\nmonthly_usd = 10000\n"
    app = make(f"{CONFIG}\n{model}")
    app.fleet.routing.agents.register("codegen-1", "codegen", 3, {})
    (one,) = group([code(app, "acme")])().results
    held = client.hgetall(app.fleet.keys.money)
    before = written(client)
    with pytest.raises(OverBudget):
        group(code(app, "acme") for _ in range(5))()
    assert client.hgetall(app.fleet.keys.money) == held
    assert written(client) == before
    assert app.fleet.tasks.records.state(one.id) == "queued"


def test_in_an_emergency_a_whole_does_not_pass_for_one_of_it(
    app: Celery, client: redis.Redis
) -> None:
    from fleet.client import Fleet

    Fleet(app.fleet.settings).set_emergency(why="a test")
    before = written(client)
    with pytest.raises(InEmergency):
        group([code(app, priority=0), code(app)])()
    assert written(client) == before


def test_plain_tasks_that_cannot_be_sent_after_the_whole_are_named(
    app: Celery, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleet.broker.transport.channel import Channel

    def away(*_: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(Channel, "_push", away)
    canvas = group([code(app), plain(app)])
    with pytest.raises(PartlySubmitted, match="away") as told:
        canvas.apply_async(retry=False)
    (submitted,) = told.value.submitted
    assert app.fleet.tasks.records.state(submitted) == "queued"
    assert len(told.value.unsure) == 1


def test_a_lost_answer_says_that_all_may_be_written(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleet.errors import Unavailable
    from fleet.tasks.submission.store import Unplaced

    def lost(self: Submissions, entries: Any, *_: Any, **__: Any) -> Any:
        return [(entries, Unplaced(Unavailable("timed out"), may_be_written=True))]

    monkeypatch.setattr(Submissions, "place_many", lost)
    with pytest.raises(PartlySubmitted) as told:
        group(code(app) for _ in range(3))()
    assert (told.value.submitted, len(told.value.unsure)) == ((), 3)


def test_a_group_of_plain_tasks_is_sent_one_by_one_as_by_celery(
    app: Celery, client: redis.Redis
) -> None:
    seen: list[int] = []

    def lazily() -> Any:
        for _ in range(3):
            seen.append(client.llen("{fleet}.jobs"))
            yield plain(app)

    group([plain(app), plain(app)])()
    assert client.llen("{fleet}.jobs") == 2
    group(lazily())()
    assert client.llen("{fleet}.jobs") == 5


@pytest.mark.parametrize("canvas", [xmap, xstarmap])
def test_many_calls_of_an_agent_in_one_plain_task_are_refused(
    app: Celery, client: redis.Redis, canvas: Any
) -> None:
    before = written(client)
    with pytest.raises(InvalidRequest, match="send them as a"):
        canvas(code(app), [1, 2], app=app).apply_async()
    with pytest.raises(InvalidRequest, match="send them as a"):
        chunks(code(app), [(1,), (2,)], 1, app=app).group()()
    assert written(client) == before
