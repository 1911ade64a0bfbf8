"""Brings the prices of the catalogue up to date, and says what that changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleet.adapters.price_files import DEFAULT_UPDATE_URL, fetched, parsed, read_given, store
from fleet.adapters.prices import PriceBook, current_prices, installed_prices
from fleet.core.prices import Price
from fleet.errors import InvalidConfig, InvalidRequest, Unavailable
from fleet.services.catalogue import contract_price, seller
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
    """

    source: str
    path: Path
    listed_models: int
    changes: tuple[Change, ...]
    unpriced: tuple[str, ...]


def refresh(
    settings: Settings, url: str = DEFAULT_UPDATE_URL, given: Path | None = None
) -> Refreshed:
    """Take price data from an address or a file, check it, and keep it in the data folder.

    Raises `Unavailable` where the address yields no price data, `InvalidRequest` where the file
    is none. Nothing is written then.
    """
    document = read_given(given) if given else fetched(url)
    source = str(given) if given else masked(url)
    try:
        snapshot = parsed(document, source)
    except InvalidRequest as error:
        if given:
            raise
        raise Unavailable(f"{error}; the prices that are here stay") from error
    before = _prices(settings, _present(settings.environment.data_dir))
    path = store(settings.environment.data_dir, document, source)
    after = _prices(settings, current_prices(settings.environment.data_dir))
    return Refreshed(
        source=source,
        path=path,
        listed_models=sum(len(provider.models) for provider in snapshot.providers),
        changes=tuple(
            Change(name, before[name], price)
            for name, price in after.items()
            if price != before[name]
        ),
        unpriced=tuple(name for name, price in after.items() if price is None),
    )


def _present(data_dir: Path) -> PriceBook:
    """The prices before. A stored file that cannot be read is about to be replaced."""
    try:
        return current_prices(data_dir)
    except InvalidConfig:
        return installed_prices()


def _prices(settings: Settings, book: PriceBook) -> dict[str, Price | None]:
    """The price of each model of the catalogue that is not free; a contract's stands."""
    now = datetime.now(UTC)
    return {
        name: contract_price(line) or book.find(seller(settings, line.provider), name, now).price
        for name, line in settings.config.catalogue.items()
        if not line.free
    }
