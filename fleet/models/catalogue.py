"""The models to choose from, where each is served, and why it cannot be had where it cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

from fleet.errors import InvalidConfig
from fleet.models.prices import Listed, PriceBook, current_prices
from fleet.models.rules.choice import REFERENCE_CATALOGUE, Model, Price
from fleet.settings import Settings
from fleet.settings.models import CatalogueModel
from fleet.settings.names import LOCAL

KEY_ID_DIGITS = 8


def catalogue(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    price_all: bool = False,
    now: datetime | None = None,
    book: PriceBook | None = None,
) -> tuple[Model, ...]:
    """All models of the catalogue; those that cannot be had here say why as `absent`.

    A hosted model can be had where its provider's key is in the environment, a local one where no
    provider has a key or FLEET_MODEL_URL names a server. Prices are those of the `book`, or else of
    the newest data here, that hold at `now`, or else at this moment: `fleet.models.priced`
    follows them. Models that cannot be had are priced only with `price_all`, for somebody to see.

    Raises `InvalidConfig` where no model can be had, or one that can has no price and is not
    marked free.
    """
    if settings.config.models.catalogue == "reference":
        return REFERENCE_CATALOGUE
    shelf = _Shelf(settings, environment, price_all, now or datetime.now(UTC), book)
    models = tuple(shelf.model(name, each) for name, each in settings.config.catalogue.items())
    if all(model.absent for model in models):
        reasons = "; ".join(f"{model.name}: {model.absent}" for model in models)
        raise InvalidConfig(
            f"{settings.source}: catalogue: no model of it can be had here "
            f"({reasons or 'it is empty'}); add one, or set the key of a provider that has models"
        )
    return models


def key_id(provider: str, key: str) -> str:
    """A name for a provider's key that does not tell it: the beginning of its SHA-256."""
    return f"{provider}:{hashlib.sha256(key.encode()).hexdigest()[:KEY_ID_DIGITS]}"


class _Shelf:
    """Turns the catalogue's lines into models, with prices that are read when first wanted."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        price_all: bool,
        now: datetime,
        book: PriceBook | None,
    ) -> None:
        self.settings = settings
        self.price_all = price_all
        self.now = now
        self.providers = settings.config.providers
        found = {name: each.key(environment) for name, each in self.providers.items()}
        self.keys = {name: key for name, key in found.items() if key}
        self.serves_local = not self.keys or settings.environment.model_url is not None
        self.book = book

    def model(self, name: str, line: CatalogueModel) -> Model:
        absent = self._absent(line.provider)
        listed = Listed() if absent and not self.price_all else self._listed(name, line)
        if listed.price is None and not line.free and not absent:
            raise InvalidConfig(
                f'{self.settings.source}: catalogue."{name}": no price is known for it; set '
                "input_price and output_price (US dollars for a thousand tokens), or free = true"
            )
        return Model(
            name=name,
            provider=line.provider,
            price=listed.price,
            quality=line.quality,
            speed=line.speed,
            efficiency=line.efficiency,
            free=line.free,
            context_tokens=listed.context_tokens,
            capabilities=frozenset(line.capabilities),
            region=line.region,
            tenants=frozenset(line.tenants),
            key_id=self._key_id(line.provider),
            absent=absent,
        )

    def _absent(self, provider: str) -> str:
        if provider == LOCAL:
            # Beside a provider with a key `fleet up` starts no model of its own.
            return "" if self.serves_local else "not served: set FLEET_MODEL_URL"
        if provider in self.keys:
            return ""
        return f"no key: set {' or '.join(self.providers[provider].variables)}"

    def _key_id(self, provider: str) -> str | None:
        # The local model cools down for nobody: it has no key that others could have used up.
        if provider == LOCAL:
            return None
        return key_id(provider, self.keys[provider]) if provider in self.keys else None

    def _listed(self, name: str, line: CatalogueModel) -> Listed:
        if is_fixed(line):
            return Listed(contract_price(line), line.context_tokens)
        if self.book is None:
            self.book = current_prices(self.settings.environment.data_dir)
        return listed(self.settings, name, line, self.book, self.now)


def is_fixed(line: CatalogueModel) -> bool:
    """Whether the configuration says all that the price data could say of a model."""
    return line.free or bool(contract_price(line) and line.context_tokens)


def listed(
    settings: Settings, name: str, line: CatalogueModel, book: PriceBook, now: datetime
) -> Listed:
    """What is configured of a model, and where that is silent what the data says."""
    price = contract_price(line)
    known = book.find(seller(settings, line.provider), name, now)
    return Listed(price or known.price, line.context_tokens or known.context_tokens)


def seller(settings: Settings, provider: str) -> str:
    """What the price data calls a provider: a maker whatever its table is called, else that."""
    found = settings.config.providers.get(provider)
    return found.kind if found and found.kind != "openai" else provider


def contract_price(line: CatalogueModel) -> Price | None:
    """The price that is configured for a model, or None."""
    if line.input_price is None or line.output_price is None:
        return None
    return Price.per_thousand(
        line.input_price, line.output_price, line.cached_input_price, line.cache_write_price
    )
