"""The catalogue follows its prices: by the hour, by the date, and after a refresh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.models.keys import ProviderKeys
from fleet.models.price_files import store
from fleet.models.priced import CHECK_SECONDS, ModelsByName, PricedModels
from fleet.money import Price
from fleet.settings import Environment, Settings, parse_config

NIGHT = datetime(2026, 11, 30, 1, 59, 59, tzinfo=UTC)
KEY = {"OPENAI_API_KEY": "k"}
CATALOGUE = """
[catalogue.hourly]
provider = "openai"
quality = 0.9
speed = 0.9

[catalogue.fixed]
provider = "openai"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.001
context_tokens = 1000
"""


def document(*prices: dict[str, Any], window: int = 1000) -> list[dict[str, Any]]:
    """Price data with one model, whose last price that holds counts."""
    names = [{"id": each, "match": {"equals": each}} for each in ("hourly", "fixed")]
    models = [{**each, "context_window": window, "prices": [*prices]} for each in names]
    return [{"id": "openai", "name": "OpenAI", "api_pattern": "x", "models": models}]


def plain(dollars: float, constraint: dict[str, str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"prices": {"input_mtok": dollars, "output_mtok": dollars}}
    return {**found, "constraint": constraint} if constraint else found


DAY_AND_NIGHT = document(
    plain(2.0), plain(1.0, {"start_time": "00:00:00Z", "end_time": "02:00:00Z"})
)


class Clocks:
    """Both clocks of a process, moved by hand."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.passed = 0.0

    def utc(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.passed

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.passed += seconds


def made(folder: Path, now: datetime = NIGHT) -> tuple[PricedModels, Clocks]:
    config = parse_config(CATALOGUE, "fleet.toml")
    settings = Settings(Environment(data_dir=folder), config, "fleet.toml")
    clocks = Clocks(now)
    keys = ProviderKeys(config.providers, KEY)
    return PricedModels(settings, keys, clocks.utc, clocks.monotonic), clocks


def price_of(models: PricedModels, name: str = "hourly") -> Price | None:
    return ModelsByName(models)[name].price


def dollars(million: float) -> Price:
    return Price.per_thousand(million / 1000, million / 1000)


def test_a_price_by_the_hour_holds_from_the_second_that_it_begins(tmp_path: Path) -> None:
    store(tmp_path, DAY_AND_NIGHT, "here")
    models, clocks = made(tmp_path)
    assert price_of(models) == dollars(1)
    clocks.wait(1)
    assert price_of(models) == dollars(2)
    clocks.wait(22 * 3600)
    assert price_of(models) == dollars(1)
    assert price_of(models, "fixed") == dollars(1)


def test_a_dated_price_reaches_a_process_that_runs(tmp_path: Path) -> None:
    store(tmp_path, document(plain(1.0), plain(5.0, {"start_date": "2026-12-01"})), "here")
    models, clocks = made(tmp_path, datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    assert price_of(models) == dollars(1)
    clocks.wait(1)
    assert price_of(models) == dollars(5)


def test_newly_stored_prices_reach_a_process_that_runs_within_seconds(tmp_path: Path) -> None:
    store(tmp_path, document(plain(1.0)), "here")
    models, clocks = made(tmp_path)
    assert price_of(models) == dollars(1)
    store(tmp_path, document(plain(3.0), window=2000), "here")
    clocks.wait(CHECK_SECONDS)
    assert price_of(models) == dollars(3)
    assert ModelsByName(models)["hourly"].context_tokens == 2000
    assert CHECK_SECONDS < 60


def test_after_a_long_sleep_the_first_look_has_the_new_price(tmp_path: Path) -> None:
    store(tmp_path, document(plain(1.0)), "here")
    models, clocks = made(tmp_path)
    assert price_of(models) == dollars(1)
    store(tmp_path, document(plain(3.0)), "here")
    clocks.wait(86_400)
    assert price_of(models) == dollars(3)


def test_the_first_prices_may_be_stored_while_a_process_runs(tmp_path: Path) -> None:
    store(tmp_path, document(plain(1.0)), "here")
    models, clocks = made(tmp_path)
    (tmp_path / "prices.json").unlink()
    clocks.wait(CHECK_SECONDS)
    assert price_of(models) == dollars(1), "what is known nowhere now keeps its price"
    store(tmp_path, document(plain(3.0)), "here")
    clocks.wait(CHECK_SECONDS)
    assert price_of(models) == dollars(3)


@pytest.mark.parametrize("content", ["{", "[]", '{"providers": 3}'])
def test_a_file_that_cannot_be_read_changes_no_price(tmp_path: Path, content: str) -> None:
    store(tmp_path, document(plain(1.0)), "here")
    models, clocks = made(tmp_path)
    assert price_of(models) == dollars(1)
    (tmp_path / "prices.json").write_text(content)
    clocks.wait(CHECK_SECONDS)
    assert price_of(models) == dollars(1)
    store(tmp_path, document(plain(3.0)), "here")
    clocks.wait(CHECK_SECONDS)
    assert price_of(models) == dollars(3)


def test_while_nothing_changes_the_models_are_the_same_objects(tmp_path: Path) -> None:
    store(tmp_path, DAY_AND_NIGHT, "here")
    models, clocks = made(tmp_path)
    before = models.current()
    clocks.wait(0.5)
    assert models.current() is before
    clocks.wait(CHECK_SECONDS)
    after = models.current()
    assert [new is old for new, old in zip(after, before, strict=True)] == [False, True]
