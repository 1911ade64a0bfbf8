"""Brings the prices of the catalogue up to date, and says what that changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genai_prices.update_prices import DEFAULT_UPDATE_URL

from fleet.errors import FleetError, InvalidConfig, InvalidRequest, Unavailable
from fleet.models.catalogue import contract_price, seller
from fleet.models.price_files import (
    Stored,
    document_text,
    fetched,
    packed,
    parsed,
    read_given,
    store_text,
)
from fleet.models.priced import read_shared
from fleet.models.prices import PriceBook, current_prices, newest_prices
from fleet.models.prices_store import SharedPrices
from fleet.money import Price
from fleet.redis.client import connect
from fleet.redis.keys import Keys
from fleet.redis.scripts import Scripts
from fleet.settings import Settings
from fleet.settings.addresses import masked


@dataclass(frozen=True, slots=True)
class Change:
    """A model of the catalogue whose price is another now. None is no known price."""

    model: str
    before: Price | None
    after: Price | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did: where the data came from and went, and what that means here.

    `unpriced` are the models of the catalogue that are not free and have no price at all.
    `not_shared` says why the fleet does not have the data, empty where it does.
    """

    source: str
    path: Path
    listed_models: int
    changes: tuple[Change, ...]
    unpriced: tuple[str, ...]
    not_shared: str


def shared_prices(settings: Settings) -> SharedPrices:
    """What the fleet shares. It needs no catalogue: a refresh may bring what that lacks."""
    client = connect(settings.broker_url, settings.environment.socket_timeout)
    return SharedPrices(client, Keys(settings.tag), Scripts(client))


def refresh(
    settings: Settings,
    shared: SharedPrices,
    url: str = DEFAULT_UPDATE_URL,
    given: Path | None = None,
) -> Refreshed:
    """Take price data from an address or a file, check it, keep it in the data folder, and share it
    with the fleet. Where Redis does not take it, it is kept in the folder all the same.

    Raises `Unavailable` where the address yields no price data, `InvalidRequest` where the file
    is none, or is too large. Nothing is written then.
    """
    source = str(given) if given else masked(url)
    document, listed_models = _checked(url, given, source)
    data_dir, now, not_shared = settings.environment.data_dir, datetime.now(UTC), ""
    present: Stored | None = None
    try:
        # By one clock for all machines, since the newest counts.
        now = shared.now()
        present = _present_shared(shared)
    except FleetError as error:
        not_shared = str(error)
    content = document_text(document, source, now)
    compressed = packed(content, source)
    before = _prices(settings, _present(data_dir, present))
    path = store_text(data_dir, content)
    if not not_shared:
        try:
            shared.put(compressed)
        except FleetError as error:
            not_shared = str(error)
    after = _prices(settings, current_prices(data_dir))
    return Refreshed(
        source=source,
        path=path,
        listed_models=listed_models,
        changes=tuple(
            Change(name, before[name], price)
            for name, price in after.items()
            if price != before[name]
        ),
        unpriced=tuple(name for name, price in after.items() if price is None),
        not_shared=not_shared,
    )


def _checked(url: str, given: Path | None, source: str) -> tuple[Any, int]:
    """The document, and how many models it lists."""
    document = read_given(given) if given else fetched(url)
    try:
        snapshot = parsed(document, source)
    except InvalidRequest as error:
        if given:
            raise
        raise Unavailable(f"{error}; the prices that are here stay") from error
    return document, sum(len(provider.models) for provider in snapshot.providers)


def _present(data_dir: Path, shared: Stored | None) -> PriceBook:
    """The prices before. A stored file that cannot be read is about to be replaced."""
    try:
        return current_prices(data_dir, shared)
    except InvalidConfig:
        return newest_prices(None, shared)


def _present_shared(shared: SharedPrices) -> Stored | None:
    try:
        return read_shared(shared)
    except InvalidConfig:
        return None


def _prices(settings: Settings, book: PriceBook) -> dict[str, Price | None]:
    """The price of each model of the catalogue that is not free; a contract's stands."""
    now = datetime.now(UTC)
    return {
        name: contract_price(line) or book.find(seller(settings, line.provider), name, now).price
        for name, line in settings.config.catalogue.items()
        if not line.free
    }
