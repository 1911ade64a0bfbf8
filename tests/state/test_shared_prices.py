"""Prices that a refresh on one machine shares with processes on others, through a real Valkey."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from tcp_proxy import Proxy

from fleet.errors import InvalidRequest
from fleet.models import price_files
from fleet.models.keys import ProviderKeys
from fleet.models.price_files import (
    document_text,
    installed_at,
    installed_release,
    packed,
    store_text,
)
from fleet.models.price_refresh import Refreshed, refresh, shared_prices
from fleet.models.priced import CHECK_SECONDS, ModelsByName, PricedModels
from fleet.models.prices_store import SharedPrices
from fleet.models.store import ModelState
from fleet.money import Price
from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys
from fleet.redis.roles import ROLES
from fleet.settings import Environment, Settings, parse_config

CATALOGUE = """
[catalogue.ours]
provider = "openai"
quality = 0.9
speed = 0.9
"""
NOW = datetime.now(UTC).replace(microsecond=0)


def document(price: float) -> list[dict[str, Any]]:
    """Price data of one model: dollars for a million tokens of either kind."""
    prices = {"input_mtok": price, "output_mtok": price}
    model = {"id": "ours", "match": {"equals": "ours"}, "context_window": 1000, "prices": prices}
    return [{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": [model]}]


def dollars(million: float) -> Price:
    return Price.per_thousand(million / 1000, million / 1000)


class Machine:
    """A data folder of its own, and a process there that follows prices by clocks of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.passed = 0.0
        environment = Environment(data_dir=folder, broker_url=SecretStr(url), socket_timeout=0.3)
        config = parse_config(CATALOGUE, "fleet.toml")
        self.settings = Settings(environment, config, "fleet.toml")
        self.shared: SharedPrices = shared_prices(self.settings)
        self.store(1.0, NOW - timedelta(days=1))
        self.models = PricedModels(
            self.settings,
            ProviderKeys(config.providers, {"OPENAI_API_KEY": "k"}),
            lambda: NOW + timedelta(seconds=self.passed),
            lambda: self.passed,
            self.shared,
        )
        self.state = ModelState(self.shared.client, self.shared.keys, self.shared.scripts, 60.0)

    def store(self, price: float, fetched_at: datetime) -> None:
        store_text(self.folder, document_text(document(price), "here", fetched_at))

    def share(self, price: float, fetched_at: datetime) -> None:
        self.shared.put(packed(document_text(document(price), "here", fetched_at), "here"))

    def refresh(self, price: float) -> Refreshed:
        given = self.folder / "given.json"
        given.write_text(json.dumps(document(price)))
        return refresh(self.settings, self.shared, given=given)

    def look(self) -> Price | None:
        """The price after facts of the models came by, as they do with each call."""
        self.models.follow(self.state.read().prices)
        return self.price()

    def price(self) -> Price | None:
        return ModelsByName(self.models)["ours"].price


Machines = tuple[Machine, Machine]


@pytest.fixture
def machines(client: redis.Redis, valkey_url: str, tmp_path: Path) -> Machines:
    return Machine(tmp_path / "one", valkey_url), Machine(tmp_path / "two", valkey_url)


def test_a_refresh_on_one_machine_is_seen_on_another_at_its_next_look(machines: Machines) -> None:
    one, two = machines
    assert (one.look(), two.look()) == (dollars(1), dollars(1))
    done = one.refresh(3.0)
    assert done.not_shared == ""
    assert two.look() == dollars(3)
    two.refresh(5.0)
    assert one.look() == dollars(5)
    one.passed += CHECK_SECONDS
    assert one.look() == dollars(5), "its own file is older than what is shared"


def test_a_process_that_starts_after_the_refresh_has_it_from_its_first_look(
    machines: Machines, valkey_url: str, tmp_path: Path
) -> None:
    machines[0].refresh(3.0)
    assert Machine(tmp_path / "three", valkey_url).look() == dollars(3)


def test_the_document_is_read_once_for_each_version(machines: Machines) -> None:
    one, two = machines
    one.refresh(3.0)

    def calls() -> int:
        stats = two.shared.client.info("commandstats").get("cmdstat_hmget", {"calls": 0})
        return int(stats["calls"])

    before = calls()
    for _ in range(5):
        assert two.look() == dollars(3)
        two.passed += CHECK_SECONDS
    assert calls() == before + 1


@pytest.mark.parametrize(
    ("stored", "shared", "wins"), [(2, 1, "stored"), (1, 2, "shared"), (1, 1, "shared")]
)
def test_the_newer_of_file_and_redis_counts(
    machines: Machines, stored: int, shared: int, wins: str
) -> None:
    one, two = machines
    one.share(5.0, NOW + timedelta(seconds=shared))
    two.store(3.0, NOW + timedelta(seconds=stored))
    two.passed += CHECK_SECONDS
    expected = {"stored": dollars(3), "shared": dollars(5)}[wins]
    assert two.look() == expected
    two.passed += CHECK_SECONDS
    assert two.look() == expected


def test_a_file_that_is_newer_than_what_was_shared_is_taken_later_too(machines: Machines) -> None:
    one, two = machines
    one.share(5.0, NOW)
    assert two.look() == dollars(5)
    two.store(7.0, NOW + timedelta(seconds=1))
    two.passed += CHECK_SECONDS
    assert two.look() == dollars(7)


BROKEN = {
    "not compressed": b"{}",
    "no JSON": zlib.compress(b"{"),
    "no document": zlib.compress(b"[]"),
    "no prices": zlib.compress(
        b'{"providers": 3, "release": "1", "fetched_at": "2026-11-30T00:00:00+00:00"}'
    ),
    "no time": zlib.compress(b'{"providers": [], "release": "1", "fetched_at": "yesterday"}'),
    "cut off": packed(document_text(document(3.0), "here", NOW), "here")[:-9],
    "empty": b"",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_document_changes_no_price_and_the_next_is_taken(
    machines: Machines, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = machines
    assert two.look() == dollars(1)
    one.shared.put(content)
    assert two.look() == dollars(1)
    said = capsys.readouterr()
    assert "shared prices are unreadable, previous prices stay" in said.out + said.err
    two.look()
    said = capsys.readouterr()
    assert said.out + said.err == "", "said once"
    one.refresh(3.0)
    assert two.look() == dollars(3)


def test_a_document_that_does_not_fit_its_version_changes_no_price(machines: Machines) -> None:
    one, two = machines
    one.refresh(3.0)
    client = one.shared.client
    other = packed(document_text(document(9.0), "here", NOW), "here")
    client.hset("{fleet}:prices", "document", other)
    assert two.look() == dollars(1)
    client.delete("{fleet}:prices")
    client.hset("{fleet}:models", "prices", "another")
    assert two.look() == dollars(1)
    client.set("{fleet}:prices", "no hash")
    client.hset("{fleet}:models", "prices", "yet another")
    assert two.look() == dollars(1)


def test_a_document_that_grows_too_large_when_unpacked_is_refused(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    one.refresh(3.0)
    monkeypatch.setattr(price_files, "MAX_BYTES", 100)
    assert two.look() == dollars(1)


@pytest.mark.parametrize("bound", ["MAX_BYTES", "MAX_PACKED_BYTES"])
def test_a_document_that_is_too_large_to_share_is_refused_before_anything_is_written(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    one, two = machines
    monkeypatch.setattr(price_files, bound, 100)
    with pytest.raises(InvalidRequest, match="Leave out models that it does not use"):
        one.refresh(3.0)
    assert one.shared.read() is None
    one.passed = two.passed = CHECK_SECONDS
    assert (one.look(), two.look()) == (dollars(1), dollars(1))


def test_while_redis_is_away_the_last_prices_stay_and_a_refresh_keeps_its_file(
    client: redis.Redis, valkey_url: str, proxy: Proxy, tmp_path: Path
) -> None:
    away = valkey_url.replace(valkey_url.rsplit(":", 1)[1], f"{proxy.port}/0")
    one, two = Machine(tmp_path / "one", valkey_url), Machine(tmp_path / "two", away)
    one.refresh(3.0)
    assert two.look() == dollars(3)
    one.refresh(5.0)
    version = one.state.read().prices
    proxy.cut()
    two.models.follow(version)
    assert two.price() == dollars(3)
    proxy.heal()
    two.models.follow(version)
    assert two.price() == dollars(3), "one that does not answer is not asked each time"
    two.passed += CHECK_SECONDS
    assert two.look() == dollars(5)
    proxy.cut()
    done = two.refresh(7.0)
    assert "does not answer" in done.not_shared
    two.passed += CHECK_SECONDS
    assert two.price() == dollars(7)


def test_prices_shared_beside_another_release_count_where_they_are_newer_than_what_is_installed(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    release = installed_release()
    for price, fetched_at, expected in (
        (3.0, installed_at() - timedelta(days=1), 1.0),
        (5.0, installed_at() + timedelta(days=1), 5.0),
    ):
        monkeypatch.setattr(price_files, "installed_release", lambda: "0.another")
        one.share(price, fetched_at)
        monkeypatch.setattr(price_files, "installed_release", lambda: release)
        assert two.look() == dollars(expected)


def test_a_user_with_the_least_rights_may_share_and_read(
    machines: Machines, client: redis.Redis, valkey_url: str, tmp_path: Path
) -> None:
    rule = acl_rule(ROLES["administrator"], AclPlace(Keys("{fleet}")))
    client.execute_command("ACL", "SETUSER", "sharer", *rule, "on", ">secret")
    try:
        least = Machine(tmp_path / "least", valkey_url.replace("//", "//sharer:secret@"))
        assert least.refresh(3.0).not_shared == ""
        assert least.look() == dollars(3)
        assert machines[0].look() == dollars(3)
    finally:
        client.acl_deluser("sharer")
