"""The real local language model, started once for the tests that talk to it, and runs of tasks
whose models are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import redis
from fake_provider import FakeProvider
from missing import need_weights
from task_runs import CONFIG, Run, start_run

from fleet.local.model import start_model
from fleet.settings import Settings


@pytest.fixture(scope="session")
def local_model_url() -> Iterator[str]:
    need_weights()
    server = start_model(0, "local")
    yield f"{server.listening_address}/v1"
    del server


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as found:
        yield found


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all of a test, since callers keep their connections."""
    with asyncio.Runner() as found:
        yield found


@pytest.fixture
def start(
    fake: FakeProvider,
    loop: asyncio.Runner,
    client: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
) -> Callable[..., Run]:
    """Makes a run of a new task, with some text of the configuration replaced where asked."""

    def make(limit: float | None = None, more: str = "", **replaced: str) -> Run:
        clean_environment.setenv("FAKE_API_KEY", "sk-secret")
        text = more + CONFIG.format(url=fake.base_url)
        for old, new in replaced.items():
            text = text.replace(old, new)
        return start_run(settings_of(text), fake, loop, limit)

    return make
