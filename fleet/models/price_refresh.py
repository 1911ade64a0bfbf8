"""Updates the prices of the catalogue, and reports the changes."""

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
class PriceChange:
    """A model of the catalogue whose price has changed. None means that no price is known."""

    model: str
    before: Price | None
    after: Price | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The result of a refresh: the source, the stored file, and the effects on the catalogue.

    `unpriced` are the models of the catalogue that are not free and have no price. `not_shared`
    says why the fleet did not get the data; empty if it did.
    """

    source: str
    path: Path
    listed_models: int
    changes: tuple[PriceChange, ...]
    unpriced: tuple[str, ...]
    not_shared: str


def shared_prices(settings: Settings) -> SharedPrices:
    """The fleet's shared prices. Needs no catalogue: a refresh may bring prices that it lacks."""
    client = connect(settings.broker_url, settings.environment.socket_timeout)
    return SharedPrices(client, Keys(settings.tag), Scripts(client))


def refresh(
    settings: Settings,
    shared: SharedPrices,
    url: str = DEFAULT_UPDATE_URL,
    given: Path | None = None,
) -> Refreshed:
    """Read price data from an address or a file, check it, store it in the data folder, and share
    it with the fleet. If Redis does not take it, it is stored in the folder all the same.

    Raises `Unavailable` if the address has no price data, `InvalidRequest` if the file has none or
    is too large. Then nothing is written.
    """
    source = str(given) if given else masked(url)
    document, listed_models = _checked(url, given, source)
    data_dir, now, not_shared = settings.environment.data_dir, datetime.now(UTC), ""
    present: Stored | None = None
    try:
        # One clock for all machines, because the newest document wins.
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
            PriceChange(name, before[name], price)
            for name, price in after.items()
            if price != before[name]
        ),
        unpriced=tuple(name for name, price in after.items() if price is None),
        not_shared=not_shared,
    )


def _checked(url: str, given: Path | None, source: str) -> tuple[Any, int]:
    """The document and the number of models in it."""
    document = read_given(given) if given else fetched(url)
    try:
        snapshot = parsed(document, source)
    except InvalidRequest as error:
        if given:
            raise
        raise Unavailable(f"{error}; the present prices stay") from error
    return document, sum(len(provider.models) for provider in snapshot.providers)


def _present(data_dir: Path, shared: Stored | None) -> PriceBook:
    """The prices before the refresh. An unreadable stored file is about to be replaced."""
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
    """The price of each model of the catalogue that is not free. A configured price wins."""
    now = datetime.now(UTC)
    return {
        name: contract_price(line) or book.find(seller(settings, line.provider), name, now).price
        for name, line in settings.config.catalogue.items()
        if not line.free
    }
