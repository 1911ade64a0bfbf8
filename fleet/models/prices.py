"""Prices and context windows of models, from the data of genai-prices.

The newest data here wins: first the data that `fleet models refresh` stored or shared, then the
data installed with Fleet. A model that newer data lacks keeps its older price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.models.price_files import Stored, installed_at, installed_release, read_stored
from fleet.money import Price, Tier, TokenRate

# Imported on use: 15 MB that a worker with fixed prices never needs.
if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

PER_KILO = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """The price and the context window of a model in the data. None if the data has none."""

    price: Price | None = None
    context_tokens: int | None = None


class PriceBook:
    """Price data of one or more ages, the newest first. `source` names its origin for people."""

    def __init__(self, snapshots: Sequence[DataSnapshot], source: str) -> None:
        self.snapshots = tuple(snapshots)
        self.source = source

    def find(self, provider: str, model: str, now: datetime) -> Listed:
        """The price at `now`: some prices change by date or by time of day."""
        found = [each for book in self.snapshots if (each := _model(book, provider, model))]
        prices = (_price(each.get_prices(now)) for each in found)
        windows = (each.context_window for each in found)
        return Listed(
            next((price for price in prices if price), None),
            next((window for window in windows if window), None),
        )


def installed_prices() -> PriceBook:
    """The data that is installed with Fleet."""
    from genai_prices.data_snapshot import get_snapshot

    return PriceBook([get_snapshot()], f"genai-prices {installed_release()}")


def current_prices(data_dir: Path, shared: Stored | None = None) -> PriceBook:
    """The newest data here. `shared` is the fleet's shared document, if any.

    Raises `InvalidConfig` for a stored file that cannot be read.
    """
    return newest_prices(read_stored(data_dir), shared)


def newest_prices(stored: Stored | None, shared: Stored | None) -> PriceBook:
    """The newest of the stored file, the shared document and the installed data.

    The shared document wins over a stored file of the same age. A stored file counts only with the
    release that was installed when it was fetched, because nothing else says which is older. The
    shared document may come from a machine with another release. It also counts if it was fetched
    after the release here was installed, and so after that release was made.
    """
    installed, release = installed_prices(), installed_release()
    used = [each for each in (shared, stored) if each is not None and each.release == release]
    if shared is not None and shared not in used and shared.fetched_at > installed_at():
        used.insert(0, shared)
    if used:
        newest = max(used, key=lambda each: each.fetched_at)
        source = f"{newest.place} of {newest.fetched_at.isoformat(timespec='seconds')}"
        return PriceBook([newest.snapshot, *installed.snapshots], source)
    unused = [
        f"; {each.place} came beside {each.release} and is not used"
        for each in (stored, shared)
        if each is not None
    ]
    return PriceBook(installed.snapshots, installed.source + "".join(unused))


def _model(snapshot: DataSnapshot, provider: str, model: str) -> ModelInfo | None:
    try:
        return snapshot.find_provider_model(model, None, provider, None)[1]
    except LookupError:
        return None


def _price(known: ModelPrice) -> Price | None:
    """The price, or None if the price of a kind of token is missing: it would count as 0."""
    request = known.requests_kcount or Decimal(0)
    if known.input_mtok is None or known.output_mtok is None or not isinstance(request, Decimal):
        return None
    return Price(
        _rate(known.input_mtok),
        _rate(known.output_mtok),
        _rate_if_any(known.cache_read_mtok),
        request / PER_KILO,
        _rate_if_any(known.cache_write_mtok),
        _rate_if_any(known.output_reasoning_mtok),
    )


def _rate_if_any(known: Decimal | TieredPrices | None) -> TokenRate | None:
    return None if known is None else _rate(known)


def _rate(known: Decimal | TieredPrices) -> TokenRate:
    if isinstance(known, Decimal):
        return TokenRate(known)
    return TokenRate(known.base, tuple(Tier(tier.start, tier.price) for tier in known.tiers))
