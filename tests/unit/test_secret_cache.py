"""What a process keeps of its secrets in memory, for how long, and what it serves while a store is
away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet.errors import InvalidConfig, NotAllowed, SecretNotFound, SecretsUnavailable
from fleet.secrets.environment_store import EnvironmentStore
from fleet.secrets.secrets import RETRY_SECONDS, Secrets, log
from fleet.secrets.values import Secret

PATH = "providers/acme"


class CountingStore(EnvironmentStore):
    """A store that can be written, in memory. It counts its reads; `failure` is raised instead."""

    name = "counting"
    is_writable = True

    def __init__(self, versions: dict[str, dict[int, str]]) -> None:
        super().__init__({})
        self.kept = versions
        self.reads = 0
        self.failure: Exception | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    def read(self, path: str, version: int | None = None) -> Secret:
        self.reads += 1
        self.meanwhile()
        if self.failure:
            raise self.failure
        kept = self.kept.get(path, {})
        number = max(kept, default=0) if version is None else version
        if number not in kept:
            raise SecretNotFound(f"{path} is not there")
        return Secret(path, number, {"api_key": kept[number]}, 0.0, self.name)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> CountingStore:
    return CountingStore({PATH: {1: "one"}, "providers/other": {1: "other"}})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def secrets(store: CountingStore, clock: Clock) -> Secrets:
    return Secrets([store], lambda _: None, 60, clock, stale_seconds=600, entries=3)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What is logged."""
    found: list[dict[str, object]] = []
    monkeypatch.setattr(log, "warning", lambda event, **fields: found.append(fields))
    return found


def test_a_secret_is_read_once_in_its_time(
    secrets: Secrets, store: CountingStore, clock: Clock
) -> None:
    for _ in range(3):
        assert secrets.read(PATH).fields == {"api_key": "one"}
    clock.now += 59.9
    secrets.read(PATH)
    assert store.reads == 1
    clock.now += 0.2
    secrets.read(PATH)
    assert store.reads == 2


def test_memory_holds_a_bounded_number_and_drops_what_was_used_last(
    secrets: Secrets, store: CountingStore
) -> None:
    store.kept |= {f"agents/{n}": {1: str(n)} for n in range(3)}
    secrets.read(PATH)
    for n in range(3):
        secrets.read(f"agents/{n}")
        if n < 2:
            secrets.read(PATH)
    assert set(secrets.usage().loaded) == {PATH, "agents/1", "agents/2"}


def test_memory_forgets_what_may_not_be_served_any_more(
    secrets: Secrets, clock: Clock
) -> None:
    secrets.read(PATH)
    clock.now += 661
    secrets.read("providers/other")
    assert set(secrets.usage().loaded) == {"providers/other"}


def test_threads_that_want_a_secret_at_once_share_one_read(
    secrets: Secrets, store: CountingStore
) -> None:
    others = threading.Barrier(4, timeout=30)

    def wait_for_others() -> None:
        store.meanwhile = lambda: None
        others.wait()
        # Some of them may read from memory by now; none reads the store.

    store.meanwhile = wait_for_others

    def read() -> Secret:
        others.wait()
        return secrets.read(PATH)

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(secrets.read, PATH)
        rest = [pool.submit(read) for _ in range(3)]
        found = {each.result(30).fields["api_key"] for each in (first, *rest)}
    assert (found, store.reads) == ({"one"}, 1)


def test_threads_that_wait_for_a_read_that_fails_get_its_error(
    secrets: Secrets, store: CountingStore
) -> None:
    asked = threading.Event()

    def fail_later() -> None:
        assert asked.wait(30)
        raise SecretsUnavailable("away")

    store.meanwhile = fail_later
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(secrets.read, PATH) for _ in range(2)]
        asked.set()
        for each in both:
            with pytest.raises(SecretsUnavailable):
                each.result(30)
    store.meanwhile = lambda: None
    assert secrets.read(PATH).version == 1


def test_while_a_store_is_away_memory_serves_for_a_limited_time(
    secrets: Secrets, store: CountingStore, clock: Clock
) -> None:
    secrets.read(PATH)
    store.failure = SecretsUnavailable("the store is away")
    clock.now += 61
    assert (secrets.read(PATH).fields, secrets.stale_reads) == ({"api_key": "one"}, 1)
    clock.now += 598
    assert secrets.read(PATH).version == 1
    clock.now += 1.1
    with pytest.raises(SecretsUnavailable):
        secrets.read(PATH)
    assert secrets.usage().loaded == {}


def test_without_stale_seconds_nothing_is_served_when_its_time_is_over(
    store: CountingStore, clock: Clock
) -> None:
    secrets = Secrets([store], lambda _: None, 60, clock)
    secrets.read(PATH)
    store.failure = SecretsUnavailable("the store is away")
    clock.now += 60
    with pytest.raises(SecretsUnavailable):
        secrets.read(PATH)


def test_a_store_that_is_away_is_asked_again_now_and_then_alone(
    secrets: Secrets, store: CountingStore, clock: Clock
) -> None:
    secrets.read(PATH)
    store.failure = SecretsUnavailable("the store is away")
    clock.now += 61
    for _ in range(5):
        secrets.read(PATH)
    assert (store.reads, secrets.stale_reads) == (2, 5)
    clock.now += RETRY_SECONDS
    secrets.read(PATH)
    assert store.reads == 3


def test_an_outage_is_said_once_and_the_next_one_again(
    secrets: Secrets, store: CountingStore, clock: Clock, warnings: list[dict[str, object]]
) -> None:
    for _ in range(2):
        store.failure = None
        for path in (PATH, "providers/other"):
            secrets.read(path)
        store.failure = SecretsUnavailable("the store is away")
        for _ in range(3):
            clock.now += 61
            for path in (PATH, "providers/other"):
                secrets.read(path)
        clock.now += 61
    assert [each["error"] for each in warnings] == ["the store is away"] * 2
    assert "one" not in str(warnings)


def test_after_an_outage_the_store_is_read_again(
    secrets: Secrets, store: CountingStore, clock: Clock
) -> None:
    secrets.read(PATH)
    store.failure = SecretsUnavailable("the store is away")
    clock.now += 61
    secrets.read(PATH)
    store.failure = None
    store.kept[PATH][2] = "two"
    clock.now += RETRY_SECONDS
    assert secrets.read(PATH).version == 2
    assert secrets.stale_reads == 1


@pytest.mark.parametrize(
    "failure", [NotAllowed("no"), SecretNotFound("gone"), InvalidConfig("altered")], ids=type
)
def test_only_a_store_that_is_away_lets_memory_serve(
    secrets: Secrets, store: CountingStore, clock: Clock, failure: Exception
) -> None:
    secrets.read(PATH)
    clock.now += 61
    store.failure = failure
    with pytest.raises(type(failure)):
        secrets.read(PATH)
    assert secrets.usage().loaded == {}


def test_what_is_forgotten_is_read_anew(secrets: Secrets, store: CountingStore) -> None:
    secrets.read(PATH)
    store.kept[PATH][2] = "two"
    secrets.forget(PATH)
    assert secrets.read(PATH).version == 2


def test_a_read_that_began_before_it_was_forgotten_is_not_kept(
    secrets: Secrets, store: CountingStore
) -> None:
    def overtake() -> None:
        store.meanwhile = lambda: None
        secrets.forget(PATH)

    store.meanwhile = overtake
    secrets.read(PATH)
    assert store.reads == 2


def test_stores_are_asked_in_their_order(store: CountingStore, clock: Clock) -> None:
    first = EnvironmentStore({"FLEET_SECRET_PROVIDERS__ACME__API_KEY": "from a variable"})
    secrets = Secrets([first, store], lambda _: None, 60, clock)
    assert secrets.read(PATH).store == "environment"
    assert secrets.read("providers/other").store == "counting"


def test_a_store_that_is_away_hides_no_later_one(store: CountingStore, clock: Clock) -> None:
    store.failure = SecretsUnavailable("away")
    second = CountingStore({PATH: {1: "another"}})
    with pytest.raises(SecretsUnavailable):
        Secrets([store, second], lambda _: None, 60, clock).read(PATH)
    assert second.reads == 0


def test_the_version_of_a_rotation_is_that_of_the_store_that_is_written(
    store: CountingStore, clock: Clock
) -> None:
    variables = EnvironmentStore({"FLEET_SECRET_PROVIDERS__ACME__API_KEY": "old"})
    other = CountingStore({PATH: {1: "not this", 2: "nor this"}})
    secrets = Secrets([variables, store, other], {PATH: 1}.get, 60, clock)
    assert secrets.read(PATH).fields == {"api_key": "one"}
    secrets = Secrets([variables, store, other], {PATH: 2}.get, 60, clock)
    with pytest.raises(SecretNotFound):
        secrets.read(PATH)


def test_stores_that_can_only_be_read_are_said_when_one_wants_to_write(clock: Clock) -> None:
    secrets = Secrets([EnvironmentStore({})], lambda _: None, 60, clock)
    with pytest.raises(InvalidConfig, match="environment can only be read"):
        _ = secrets.writable


def test_the_audit_is_told_of_each_read_and_each_use(store: CountingStore, clock: Clock) -> None:
    told: list[tuple[object, ...]] = []

    def note(*facts: object) -> None:
        told.append(facts)

    secrets = Secrets([store], lambda _: None, 60, clock, stale_seconds=600, note=note)
    for _ in range(2):
        with secrets.use(PATH):
            pass
    store.failure = SecretsUnavailable("the store is away")
    clock.now += 61
    secrets.read(PATH)
    with pytest.raises(SecretsUnavailable):
        secrets.read("providers/other")
    assert told == [
        (PATH, 1, "read", "ok"),
        (PATH, 1, "use", "ok"),
        (PATH, 1, "use", "ok"),
        (PATH, 0, "read", "SecretsUnavailable"),
        ("providers/other", 0, "read", "SecretsUnavailable"),
    ]


def test_what_no_store_has_names_the_stores(store: CountingStore, clock: Clock) -> None:
    secrets = Secrets([EnvironmentStore({}), store], lambda _: None, 60, clock)
    with pytest.raises(SecretNotFound, match=r"stores: environment, counting"):
        secrets.read("providers/nobody")
